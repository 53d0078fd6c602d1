"""Training runs: which clips, which model, and on how many processes.

    labelled clips ──decode once──▶ training and validation ──pipeline.training──▶ weights

One process trains right here.  More of them are Ray Train's: one per GPU, on one node or many, and
each runs the very same function.  What a run was made from stands in `RUN/run.json`.
"""

from __future__ import annotations

import json
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from tracknet.jobs.cluster import count_gpus, ray_session
from tracknet.pipeline.datasets import (
    Clip,
    LabelledClip,
    by_split,
    find_clips,
    hold_out,
    load_clip,
    paper_split,
)
from tracknet.pipeline.errors import InputError, TrackNetError
from tracknet.pipeline.models import build
from tracknet.pipeline.models.blocks import window_spec
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.training import (
    RECIPES,
    TrainConfig,
    TrainResult,
    train,
    with_changes,
)
from tracknet.pipeline.training.run import BEST, FINAL, RECORD, OnProgress, Source
from tracknet.pipeline.training.state import read_record
from tracknet.schemas import parquet
from tracknet.schemas.lock import FolderLock

Split = Literal["auto", "index", "match", "clip", "paper"]
OnClip = Callable[[int, int], None]
_RUN = "run.json"
_DECISIVE = ("arch", "model", "config", "split", "extra")  # the rest may change on resuming
_POLL_S = 1.0


@dataclass(frozen=True)
class TrainSettings:
    """A training run.

    Attributes:
        root: labelled clips, see `pipeline.datasets.find_clips`.
        out: folder of the run; with several nodes it must be storage that all share, like `root`.
        arch: a key of `pipeline.models.BUILDERS`.
        model: options of the model.
        config: the recipe.
        split: what is held out: as `clips.csv` says, whole matches, whole clips, or the paper's
            leaking cut; "auto" takes the first of these that is possible.
        extra: more labelled clips, all of them for training.
        cache: folder of decoded clips.
        device: `cpu` or `cuda`.
        processes: that share each batch.
    """

    root: Path
    out: Path
    arch: str
    config: TrainConfig
    cache: Path
    model: Mapping[str, Any] = field(default_factory=dict)
    split: Split = "auto"
    extra: tuple[Path, ...] = ()
    device: str = "cpu"
    processes: int = 1

    def document(self) -> dict[str, Any]:
        """As `run.json` holds it."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return plain


def key_values(pairs: Sequence[str]) -> dict[str, Any]:
    """Values as a command line gives them, one by one.

    >>> key_values(["lr=4e-4", "schedule=cosine", "batches.augment.crop=[96, 160]"])
    {'lr': 0.0004, 'schedule': 'cosine', 'batches': {'augment': {'crop': [96, 160]}}}

    Args:
        pairs: `name=value`; a dot leads into a table, values are TOML's, a bare word is text.

    Raises:
        InputError: a pair is none.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"{pair!r} is not KEY=VALUE")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *tables, last = name.strip().split(".")
        table = found
        for part in tables:
            table = table.setdefault(part, {})
        table[last] = value
    return found


def training_config(
    recipe: str,
    file: Path | None,
    values: Mapping[str, Any],
    budget: Mapping[str, float | None],
    full_frames: bool,
    init_from: str | None,
) -> TrainConfig:
    """A recipe, changed by a TOML file, then by single values, then by the rest.

    Raises:
        InputError: the file is no TOML, or a name or value does not fit the recipe.
    """
    config = RECIPES[recipe]
    if file is not None:
        try:
            config = with_changes(config, tomllib.loads(file.read_text("utf-8")))
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{file}: not TOML ({error})") from error
    changes = dict(values)
    if any(budget.values()):
        changes |= {"steps": None, "epochs": None, "minutes": None, **budget}
    if init_from is not None:
        changes["init_from"] = init_from
    config = with_changes(config, changes)
    return with_changes(config, {"batches": {"augment": {"crop": None}}}) if full_frames else config


def resolve_device(name: str) -> str:
    """`auto` is CUDA where there is a GPU."""
    if name != "auto":
        return name
    return "cuda" if count_gpus() else "cpu"


def train_model(
    settings: TrainSettings,
    *,
    fresh: bool = False,
    on_clip: OnClip = lambda done, total: None,
    on_progress: OnProgress = lambda report, share: None,
) -> TrainResult:
    """Train, or go on training.

    Args:
        settings: of the run.
        fresh: start over instead of resuming what `settings.out` holds.
        on_clip: called with clips decoded and their number.
        on_progress: see `pipeline.training.train`.

    Raises:
        InputError: see `pipeline.training.train`; or nothing can be held out.
        Locked: another run trains in `settings.out`.
        LabelError, VideoError: clips cannot be used.
        TrackNetError: Ray Train gave up.
    """
    if not fresh:
        _refuse_another_run(settings)
    if settings.processes == 1:
        return train_here(settings, settings.device, fresh, on_clip, on_progress)
    return _train_on_ray(settings, fresh, on_clip, on_progress)


def _refuse_another_run(settings: TrainSettings) -> None:
    """Raise InputError if the folder holds a run, begun by its record, of other settings."""
    path, wanted = settings.out / _RUN, settings.document()
    if not path.exists() or not (settings.out / RECORD).exists():
        return
    found = json.loads(path.read_text("utf-8"))
    changed = [name for name in _DECISIVE if found.get(name) != wanted[name]]
    if changed:
        raise InputError(
            f"{settings.out} holds a run with another {' and '.join(changed)} (see {path}); "
            "choose another --out, or --fresh to start over"
        )


def train_here(
    settings: TrainSettings,
    device: str,
    fresh: bool,
    on_clip: OnClip,
    on_progress: OnProgress,
    alone: bool = True,
) -> TrainResult:
    """What every process of a run does; the only one of it (`alone`) locks the folder."""
    torch.manual_seed(settings.config.batches.seed)  # the fresh weights, the same everywhere
    model = build(settings.arch, settings.model)
    training, validation = sources(settings, window_spec(model), on_clip)
    with _lock(settings).hold() if alone else nullcontext():
        parquet.write_json(settings.document(), settings.out / _RUN)
        return train(
            settings.config,
            model,
            training,
            validation,
            settings.out,
            resume=not fresh,
            on_progress=on_progress,
            device=device,
        )


def _lock(settings: TrainSettings) -> FolderLock:
    """Two runs in one folder would write over each other's state."""
    return FolderLock(settings.out / ".lock")


def sources(settings: TrainSettings, spec: WindowSpec, on_clip: OnClip) -> tuple[Source, Source]:
    """Decoded clips to train on and to validate on.

    Raises:
        InputError: the split asked for cannot be made.
    """
    clips = find_clips(settings.root)
    extra = [clip for root in settings.extra for clip in find_clips(root)]
    split = settings.split if settings.split != "auto" else _possible_split(clips)
    total = len(clips) + len(extra)
    done = 0

    def load(chosen: Sequence[Clip]) -> list[LabelledClip]:
        nonlocal done
        loaded = []
        for clip in chosen:
            loaded.append(load_clip(clip, settings.cache, width=spec.width, height=spec.height))
            done += 1
            on_clip(done, total)
        return loaded

    if split == "paper":
        if extra:
            raise InputError("the paper's split is of one set of clips; leave --extra out")
        return paper_split(load(clips), spec)
    if split != "index":
        clips = hold_out([clip for clip in clips if clip.split != "test"], split)
    training, validation = by_split(clips, "train"), by_split(clips, "val")
    total = len(training) + len(validation) + len(extra)
    return load([*training, *extra]), load(validation)


def _possible_split(clips: Sequence[Clip]) -> Literal["index", "match", "clip"]:
    if any(clip.split for clip in clips):
        return "index"
    return "match" if len({clip.key[:2] for clip in clips}) > 1 else "clip"


def _train_on_ray(
    settings: TrainSettings, fresh: bool, on_clip: OnClip, on_progress: OnProgress
) -> TrainResult:
    # Decoded before several processes would, and before a GPU is held.
    sources(settings, window_spec(build(settings.arch, settings.model)), on_clip)
    with _lock(settings).hold(), ray_session(settings.processes + 1):
        return _fit(settings, fresh, on_progress)


def _fit(settings: TrainSettings, fresh: bool, on_progress: OnProgress) -> TrainResult:
    """Have Ray Train run `_work` in each process."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    if fresh:
        (settings.out / RECORD).unlink(missing_ok=True)  # `_following` would tell of the old run
    with _following(settings, on_progress):
        trainer = TorchTrainer(
            _work,
            train_loop_config={"settings": settings, "fresh": fresh},
            scaling_config=ScalingConfig(
                num_workers=settings.processes, use_gpu=settings.device == "cuda"
            ),
            run_config=RunConfig(name="ray", storage_path=str(settings.out.absolute())),
        )
        try:
            trainer.fit()
        except Exception as error:  # whatever Ray Train raises, its cause is what matters
            raise TrackNetError(f"training in {settings.out} failed: {_cause(error)}") from error
    rows = read_record(settings.out / RECORD)
    best_f1 = max((row.f1 for row in rows if row.f1 is not None), default=None)
    files = (settings.out / name for name in (BEST, FINAL, RECORD))
    return TrainResult(rows[-1].step, rows[-1].seconds, best_f1, *files)


def _work(loop: dict[str, Any]) -> None:
    """The training loop of one process of Ray Train."""
    from ray.train.torch import get_device

    train_here(
        loop["settings"],
        str(get_device()),
        loop["fresh"],
        on_clip=lambda done, total: None,
        on_progress=lambda report, share: None,
        alone=False,
    )


@contextmanager
def _following(settings: TrainSettings, on_progress: OnProgress) -> Iterator[None]:
    """Tell of the rows that process 0 adds to the record, until the run ends."""
    ended = threading.Event()
    record, steps = settings.out / RECORD, settings.config.steps

    def follow() -> None:
        told, over = 0, False
        while not over:
            over = ended.wait(_POLL_S)  # and once more after the end
            rows = read_record(record) if record.exists() else []
            for row in rows[told:]:
                on_progress(row, row.step / steps if steps else 0.0)
            told = len(rows)

    thread = threading.Thread(target=follow, name="record")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
