"""Training recipes: everything that decides what a run does, in one frozen record.

>>> from dataclasses import replace
>>> replace(FAST, steps=12_000).learning_rate(0.03, step=360)
0.001

This module knows nothing of models, clips or files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.training.augment import Augment
from tracknet.pipeline.training.batches import BatchConfig

_FINAL_RATE = 0.01  # share of the learning rate that the cosine ends with


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainConfig:
    """A training run.

    Attributes:
        epochs, steps, minutes: the budget; exactly one is given.
        lr: the highest learning rate.
        lr_width: width of the model that `lr` is for; a model of another width gets
            `lr * lr_width / width`, because AdamW's steps are as large for each weight of a wide
            layer as for one of a narrow layer, and more of them add up.  None: every width gets
            `lr`.
        scalar_lr: factor on the rate of single numbers, that is of MDD's alpha and beta, whatever
            the width.  As released they gate two of three drafts to p = 0.5 wherever nothing moves,
            and at the common rate it takes hundreds of steps until they do not.
        schedule: "steps" multiplies by 0.1 at each milestone, "cosine" falls smoothly to 1 %.
        milestones: shares of the budget.
        warmup: share of the budget over which the rate rises from zero.
        warmup_steps: fewest steps over which it does.
        clamp: the loss clamps probabilities as the released code does, see `losses.wbce`.
        weight_decay: of AdamW.
        clip_norm: largest gradient norm.
        batches: what a step sees.
        average: decay of the moving average of weights; None for none.
        init_from: weights whose matching parameters are the start; a path or a shipped name.
            Narrower ones are widened.
        freeze: prefixes of the names of parameters that are not trained.
        report_every, validate_every, checkpoint_every: in steps.
        validation_windows: how many validation windows are scored, spread evenly.
        channels_last: memory order of convolutions; measured 1.2 to 1.3 times faster on a CPU with
            AVX512, but 0.6 times as fast at full width on one that has AVX2 only.
        bf16: autocast where the device has instructions for it (CUDA; CPUs with AVX512-BF16 or AMX,
            where a step took half the time); ignored elsewhere.
    """

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    lr: float = 1e-4
    lr_width: float | None = None
    scalar_lr: float = 1.0
    schedule: Literal["steps", "cosine"] = "steps"
    milestones: tuple[float, ...] = (20 / 30, 25 / 30)
    warmup: float = 0.0
    warmup_steps: int = 0
    clamp: bool = True
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    batches: BatchConfig = field(default_factory=BatchConfig)
    average: float | None = None
    init_from: str | None = None
    freeze: tuple[str, ...] = ()
    report_every: int = 50
    validate_every: int = 500
    checkpoint_every: int = 100
    validation_windows: int = 96
    channels_last: bool = True
    bf16: bool = True

    def __post_init__(self) -> None:
        given = [budget for budget in (self.epochs, self.steps, self.minutes) if budget is not None]
        if len(given) != 1 or given[0] <= 0:
            raise InputError("give exactly one budget above 0: epochs, steps or minutes")

    def learning_rate(self, done: float, step: int) -> float:
        """The rate of a step, before which a share `done` of the budget is spent.

        It is the rate of a model of width `lr_width`.

        >>> [PAPER.learning_rate(epoch / 30, epoch * 100) for epoch in (0, 19, 20, 25)]
        [0.0001, 0.0001, 1e-05, 1e-06]
        """
        if self.schedule == "steps":
            passed = sum(done >= milestone for milestone in self.milestones)
            return self.lr / 10**passed
        rising = min(
            done / self.warmup if self.warmup else 1.0,
            step / self.warmup_steps if self.warmup_steps else 1.0,
            1.0,
        )
        falling = max(0.0, (done - self.warmup) / (1 - self.warmup))
        cosine = (1 + math.cos(math.pi * falling)) / 2
        falling_to = _FINAL_RATE + (1 - _FINAL_RATE) * cosine
        return self.lr * max(rising * falling_to, _FINAL_RATE)


def with_changes(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """A recipe with some values replaced.

    Args:
        config: the recipe.
        changes: named and nested as the recipe's own fields.

    Raises:
        InputError: a name is unknown, or a value is not of its kind.

    >>> with_changes(FAST, {"lr": 3e-4, "batches": {"augment": {"crop": [96, 160]}}}).lr
    0.0003
    """
    try:
        return TrainConfig(**_merged(asdict(config), changes))
    except ValidationError as error:
        problems = (
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        )
        raise InputError(f"this is no training recipe: {'; '.join(problems)}") from error


def _merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(table)
    for name, value in changes.items():
        deeper = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merged(merged[name], value) if deeper else value
    return merged


PAPER = TrainConfig(epochs=30, bf16=False)
FAST = TrainConfig(
    steps=4000,
    lr=1e-3,
    lr_width=0.25,
    scalar_lr=10.0,
    schedule="cosine",
    warmup=0.03,
    warmup_steps=50,
    clamp=False,
    average=0.998,
    batches=BatchConfig(
        batch=8,
        balance=0.5,
        skip_repeats=True,
        mask="disk",
        augment=Augment(
            crop=(144, 256),
            zoom=0.25,
            flip=0.5,
            brightness=0.15,
            contrast=0.2,
            colour=0.1,
        ),
    ),
)
RECIPES = {"paper": PAPER, "fast": FAST}
