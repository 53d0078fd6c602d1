"""Comparisons at equal data, budget and protocol: the models of the paper, or pasted balls.

Each variant is trained by `jobs.train` with the same recipe and scored on every frame of the test
clips, 4 px at 512x288 with the contour peak.  Which clips are test clips `clips.csv` says.  A
comparison that was interrupted goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import torch

from tracknet.jobs.train import TrainSettings, train_model
from tracknet.pipeline.datasets import Clip, by_split, find_clips, load_clip
from tracknet.pipeline.models.blocks import window_spec
from tracknet.pipeline.models.checkpoint import describe, load_model
from tracknet.pipeline.scoring.metrics import Counts, bootstrap_interval
from tracknet.pipeline.training import Progress, with_changes
from tracknet.pipeline.training.validation import validate, validation_windows
from tracknet.schemas import parquet


@dataclass(frozen=True)
class Variant:
    """One line of a comparison.

    Attributes:
        name: for people.
        arch: a key of `pipeline.models.BUILDERS`.
        model: options of the model.
        changes: to the recipe.
    """

    name: str
    arch: str
    model: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """As its run is called.

        >>> Variant("V5, joint", "v5").folder
        'v5-joint'
        """
        return "-".join(self.name.lower().replace(",", "").replace("+", "-").split())


COMPARISONS: dict[str, tuple[Variant, ...]] = {
    "models": (  # tables 1 and 4 of the paper
        Variant("V2", "v2"),
        Variant("V4", "v4"),
        Variant("V2+MDD", "v2_mdd"),
        Variant("V2+R-STR", "v2_rstr"),
        Variant("V5, joint", "v5", {"attention": "joint"}),
        Variant("V5, factorized", "v5", {"attention": "factorized"}),
    ),
    "paste": (
        Variant("real balls only", "v2_mdd"),
        Variant("pasted balls", "v2_mdd", changes={"batches": {"augment": {"paste": 0.5}}}),
    ),
}


@dataclass(frozen=True)
class Line:
    """What came out for a variant.

    Attributes:
        name: of the variant.
        parameters: of its model.
        steps, seconds: that training took.
        validation_f1: of the weights that were scored, the best on validation.
        counts: outcomes by test clip.
        test_set: of each test clip.
    """

    name: str
    parameters: int
    steps: int
    seconds: float
    validation_f1: float | None
    counts: Mapping[str, Counts]
    test_set: Mapping[str, str]

    def clips_of(self, test_set: str | None = None) -> list[Counts]:
        """Outcomes of the clips of a test set; None for all."""
        return [
            counts
            for clip, counts in self.counts.items()
            if test_set in (None, self.test_set[clip])
        ]

    def f1(self, test_set: str | None = None) -> float | None:
        return reduce(add, self.clips_of(test_set), Counts()).f1

    def interval(self) -> tuple[float, float] | None:
        return bootstrap_interval(self.clips_of())


def compare(
    variants: Sequence[Variant],
    settings: TrainSettings,
    on_variant: Callable[[int, Variant], None] = lambda number, variant: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> list[Line]:
    """Train and score each variant.

    Args:
        variants: of `COMPARISONS`.
        settings: what all share; `out` gets a folder for each.
        on_variant: called before each.
        on_progress: called after each report of a training run.

    Raises:
        InputError: see `jobs.train.train_model`; or there is nothing to test on.
    """
    lines = []
    for number, variant in enumerate(variants, 1):
        on_variant(number, variant)
        ours = replace(
            settings,
            out=settings.out / variant.folder,
            arch=variant.arch,
            model={**settings.model, **variant.model},
            config=with_changes(settings.config, variant.changes),
        )
        kept = ours.out / "line.json"
        if not kept.exists():
            parquet.write_json(asdict(_line(variant, ours, on_progress)), kept)
        lines.append(_read_line(kept))
    return lines


def _line(
    variant: Variant, settings: TrainSettings, on_progress: Callable[[Progress], None]
) -> Line:
    result = train_model(settings, on_progress=on_progress)
    model = load_model(result.best).to(settings.device)
    spec = window_spec(model)
    counts, test_set = {}, {}
    for clip in test_clips(settings.root):
        loaded = load_clip(clip, settings.cache, width=spec.width, height=spec.height)
        windows = validation_windows(
            [loaded], spec, skip_repeats=settings.config.batches.skip_repeats
        )
        counts[str(clip)] = validate(model, windows, torch.device(settings.device))
        test_set[str(clip)] = f"{clip.sport}/{clip.test_set}"
    return Line(
        name=variant.name,
        parameters=describe(result.best).parameters,
        steps=result.steps,
        seconds=result.seconds,
        validation_f1=result.best_f1,
        counts=counts,
        test_set=test_set,
    )


def test_clips(root: Path) -> list[Clip]:
    """The clips of split "test".

    Raises:
        InputError: there is none.
    """
    return by_split(find_clips(root), "test")


def _read_line(path: Path) -> Line:
    document = json.loads(path.read_text("utf-8"))
    counts = {clip: Counts(**numbers) for clip, numbers in document.pop("counts").items()}
    return Line(**document, counts=counts)
