"""Which windows a training step sees, and how they become tensors.

A batch is a pure function of the configuration and the step number.  Nothing has to be saved to
know the "position in the epoch", a resumed run draws what an uninterrupted one would have drawn,
and a batch may be made ahead in another thread:

    batches = Batches(dataset, config)
    frames, targets, weight = batches.tensors(batches.draw(step=0), device)

Several processes share a step by taking every `world`-th window of its batch each; random numbers
belong to a window of a step, so a batch is the same however many processes draw it.

Two ways to draw: `balance=None` walks through all windows in a new seeded order each epoch (the
paper), a number draws with replacement so that small sports are seen often enough.

This module knows nothing of models, optimizers or files.
"""

from __future__ import annotations

from dataclasses import field
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from tracknet.pipeline.datasets import Sample, WindowedDataset
from tracknet.pipeline.errors import InputError
from tracknet.pipeline.training.augment import Augment, augment
from tracknet.pipeline.training.targets import disk_masks, paper_masks

Mask = Literal["disk", "paper"]
_ORDER, _DRAW, _VIEW = 0, 1, 2  # streams of random numbers that must not be the same
_MIXUP_BETA = 0.5


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class BatchConfig:
    """How batches are made.

    Attributes:
        batch: windows in one.
        seed: of everything random.
        balance: None for epochs; else see `WindowedDataset.balanced`.
        emphasis: factor on the share of a sport, where `balance` is given; 1 where none is named.
        slow: factor on windows whose ball is slow, likewise.  Motion tells the model little about
            such a ball, and most windows show a fast one.
        skip_repeats: lay windows over frames that differ, as the tracker does.
        augment: what may happen to a window.
        mask: "paper", or "disk" with `radius` in model px.
    """

    batch: int = 2
    seed: int = 42
    balance: float | None = None
    emphasis: dict[str, float] = field(default_factory=dict)
    slow: float = 1.0
    skip_repeats: bool = False
    augment: Augment = field(default_factory=Augment)
    mask: Mask = "paper"
    radius: float = 3.5

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise InputError(f"batch {self.batch}: must be at least 1")
        if (self.emphasis or self.slow != 1) and self.balance is None:
            raise InputError("emphasis and slow need batches.balance; epochs show each window once")
        if self.slow <= 0 or any(factor <= 0 for factor in self.emphasis.values()):
            raise InputError(f"emphasis {self.emphasis}, slow {self.slow}: factors must be above 0")
        if self.mask == "paper" and self.augment != Augment():
            raise InputError("the paper's masks are made at source size: without augmentation only")


class Batch(NamedTuple):
    """Windows on their way to the device; B windows, P pictures, T frames.

    Attributes:
        pictures: uint8 [B, P, H, W, 3].
        labelled: bool [B, T].
        xy: float32 [B, T, 2], px of the pictures.
        gain: float32 [B, 3], offset: float32 [B]: see `pipeline.training.augment.View`.
        share: what a window keeps of itself when mixed with its neighbour; 1 for no mixing.
        samples: the windows as they were before augmentation.
    """

    pictures: Tensor
    labelled: Tensor
    xy: Tensor
    gain: Tensor
    offset: Tensor
    share: float
    samples: tuple[Sample, ...]


class Batches:
    """Batches of a dataset, by step number.

    Args:
        dataset: where windows come from.
        config: how batches are made.
        rank, world: this process draws windows rank, rank + world, ... of each batch.

    Raises:
        InputError: the dataset has fewer windows than one batch needs, or a batch cannot be shared
            evenly.
    """

    def __init__(
        self, dataset: WindowedDataset, config: BatchConfig, *, rank: int = 0, world: int = 1
    ) -> None:
        if len(dataset) < config.batch:
            raise InputError(f"{len(dataset)} windows are fewer than a batch of {config.batch}")
        if config.batch % world:
            raise InputError(f"a batch of {config.batch} cannot be shared by {world} processes")
        self.dataset = dataset
        self.config = config
        self.mine = slice(rank, None, world)
        self.per_epoch = len(dataset) // config.batch
        self._order = lru_cache(maxsize=1)(self._shuffled)
        self._cumulative = (
            None
            if config.balance is None
            else np.cumsum(dataset.balanced(config.balance, config.emphasis, config.slow))
        )

    def draw(self, step: int) -> Batch:
        """This process's part of the batch of a step, augmented."""
        rng = np.random.default_rng((self.config.seed, _DRAW, step))
        drawn = self.indices(step, rng)
        mixed = rng.random() < self.config.augment.mixup
        positions = range(len(drawn))[self.mine]
        samples = tuple(self.dataset[int(drawn[position])] for position in positions)
        views = [
            augment(
                sample,
                self.config.augment,
                np.random.default_rng((self.config.seed, _VIEW, step, position)),
            )
            for sample, position in zip(samples, positions, strict=True)
        ]
        return Batch(
            pictures=torch.from_numpy(np.stack([view.pictures for view in views])),
            labelled=torch.from_numpy(np.stack([view.labelled for view in views])),
            xy=torch.from_numpy(np.stack([view.xy for view in views])),
            gain=torch.from_numpy(np.stack([view.gain for view in views])),
            offset=torch.tensor([view.offset for view in views], dtype=torch.float32),
            share=float(rng.beta(_MIXUP_BETA, _MIXUP_BETA)) if mixed else 1.0,
            samples=samples,
        )

    def indices(self, step: int, rng: np.random.Generator) -> np.ndarray:
        """Which windows of the dataset make up the batch of a step, [B]."""
        size = self.config.batch
        if self._cumulative is not None:
            drawn = np.searchsorted(self._cumulative, rng.random(size), side="right")
            return np.minimum(drawn, len(self.dataset) - 1)  # the sum may fall short of 1 by an ulp
        epoch, position = divmod(step, self.per_epoch)
        return self._order(epoch)[position * size : (position + 1) * size]

    def tensors(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """What the model and the loss take.

        Returns:
            frames float32 [B, P, 3, H, W] in [0, 1]; targets float32 [B, targets, H, W]; weight
            float32 [B, targets], 0 where a frame is unlabelled.
        """
        frames = _frames(batch, device)
        outputs = slice(self.dataset.spec.targets[0], self.dataset.spec.targets[-1] + 1)
        targets = self._masks(batch, device)[:, outputs]
        weight = batch.labelled[:, outputs].to(device, torch.float32)
        if batch.share < 1:
            keep, other = batch.share, 1 - batch.share
            frames = keep * frames + other * frames.roll(1, 0)
            targets = keep * targets + other * targets.roll(1, 0)
            weight = weight * weight.roll(1, 0)
        return frames, targets, weight

    def _masks(self, batch: Batch, device: torch.device) -> Tensor:
        height, width = batch.pictures.shape[2:4]
        if self.config.mask == "disk":
            xy = batch.xy.to(device)
            return disk_masks(xy, radius=self.config.radius, height=height, width=width)
        return torch.stack(
            [
                paper_masks(
                    torch.from_numpy(sample.xy_source).to(device),
                    source_width=sample.source_size[0],
                    source_height=sample.source_size[1],
                    height=height,
                    width=width,
                )
                for sample in batch.samples
            ]
        )

    def _shuffled(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.config.seed, _ORDER, epoch))
        return rng.permutation(len(self.dataset))


def _frames(batch: Batch, device: torch.device) -> Tensor:
    """float32 [B, P, 3, H, W] in [0, 1], with the light that augmentation chose."""
    pictures = batch.pictures.to(device, non_blocking=True)
    values = pictures.permute(0, 1, 4, 2, 3).contiguous().float().div_(255)
    if bool((batch.gain == 1).all()) and bool((batch.offset == 0).all()):
        return values
    gain = batch.gain.to(device)[:, None, :, None, None]
    offset = batch.offset.to(device)[:, None, None, None, None]
    return values.sub_(0.5).mul_(gain).add_(0.5 + offset).clamp_(0, 1)
