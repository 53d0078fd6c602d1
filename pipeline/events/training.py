"""Training on labelled paths, each time as another camera and another tracker could have seen them.

A few hundred labelled events are few, so every batch is made anew: mirrored, scaled, moved, slowed
down or sped up, with noise, gaps (more of them around hits, where a player hides the ball) and
false sightings.  A small part are drawn dribbles, as of a player who is about to serve: their
bounces look like hits otherwise.  Simulated rallies may be given besides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.events.labels import LabelledPath, once
from tracknet.pipeline.events.model import (
    FPS,
    KINDS,
    EventNet,
    centred,
    features,
    pieces,
    without_repeats,
)
from tracknet.pipeline.events.order import same_kind_odds

_Events = list[tuple[float, str]]


@dataclass(frozen=True)
class EventTraining:
    """How to train.

    Attributes:
        steps, batch, frames: batches, pieces of path in each, frames of a piece.
        lr: highest learning rate of a one-cycle schedule.
        averaged: decay of the weights' moving average, which is what is kept.
        event_weight: of frames at events in the loss, against 1 of others.
        dribbles: share of the pieces that are drawn dribbles.
        simulated: share of the pieces that are of simulated rallies, where there are any.
        seed: of everything random.
    """

    steps: int = 1500
    batch: int = 12
    frames: int = 128
    lr: float = 3e-3
    averaged: float = 0.995
    event_weight: float = 2.0
    dribbles: float = 0.06
    simulated: float = 0.25
    seed: int = 0


def train(
    paths: Sequence[LabelledPath],
    settings: EventTraining,
    on_step: Callable[[int], None] = lambda step: None,
    simulated: Sequence[LabelledPath] = (),
) -> EventNet:
    """A network trained on labelled paths, in eval mode.

    It uses the caller's PyTorch threads; layers so small are fastest with one.

    Args:
        paths: what to train on.
        settings: how.
        on_step: called with how many steps are done.
        simulated: rallies to train on besides, as paths; see `EventTraining.simulated`.

    Raises:
        InputError: no path has an event.
    """
    if not any(path.events for path in paths):
        raise InputError("no labelled event in these paths")
    parts = [part for path in paths for part in _parts(path)]
    simulated_parts = [part for path in simulated for part in _parts(path)]
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    net = EventNet()
    average = torch.optim.swa_utils.AveragedModel(
        net,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.averaged),
        use_buffers=True,
    )
    optimizer = torch.optim.AdamW(net.parameters(), settings.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.steps, pct_start=0.1
    )
    weights = torch.tensor([1.0] + [settings.event_weight] * len(KINDS))
    for step in range(settings.steps):
        seen, wanted = _batch(parts, simulated_parts, settings, rng)
        likely = F.log_softmax(net(seen), 1)
        loss = -(likely * wanted * weights[:, None]).sum() / wanted.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(net)
        on_step(step + 1)
    net.load_state_dict(average.module.state_dict())
    net.same_kind = torch.tensor(same_kind_odds(_labels_of_games(paths)))
    return net.eval()


def targets(events: _Events, frames: int) -> NDArray[np.float32]:
    """[3, T]: neither, hit, bounce; 1 at an event, less a frame or two away; they sum to 1."""
    wanted = np.zeros((1 + len(KINDS), frames), np.float32)
    for frame, kind in events:
        row = wanted[1 + KINDS.index(kind)]
        np.maximum(row, np.exp(-0.5 * (np.arange(frames) - frame) ** 2), out=row)
    wanted /= np.maximum(1, wanted.sum(0))
    wanted[0] = 1 - wanted.sum(0)
    return wanted


def _labels_of_games(paths: Sequence[LabelledPath]) -> list[list[_Events]]:
    """The events of each clip, by game."""
    games: dict[str, list[_Events]] = {}
    for path in paths:
        games.setdefault(path.game, []).append(once(path.events))
    return list(games.values())


@dataclass(frozen=True)
class _Part:
    path: NDArray[np.float64]
    events: _Events
    fps: float


def _parts(path: LabelledPath) -> list[_Part]:
    """A clip in pieces without long gaps, as the network will see them."""
    xy, events = centred(without_repeats(path.xy), path.size), once(path.events)
    step = max(1, round(path.fps / FPS))
    return [
        _Part(
            xy[first::step][piece],
            [((f - first) / step - piece.start, kind) for f, kind in events],
            path.fps / step,
        )
        for first in range(step)
        for piece in pieces(xy[first::step])
    ]


def _batch(
    parts: list[_Part], simulated: list[_Part], settings: EventTraining, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [B, 15, T] and targets [B, 3, T]; targets are 0 outside of a piece of path."""
    length = settings.frames
    share = np.array([max(len(part.path), length // 2) for part in parts], float)
    drawn = rng.choice(len(parts), settings.batch, p=share / share.sum())
    rows = []
    for i in drawn:
        part, kind = parts[i], rng.random()
        if kind < settings.dribbles:
            part = _dribble(rng, length)
        elif simulated and kind < settings.dribbles + settings.simulated:
            part = simulated[rng.integers(len(simulated))]
        start = rng.integers(0, max(1, len(part.path) - length + 1))
        part = replace(
            part,
            path=part.path[start : start + length],
            events=[(frame - start, kind) for frame, kind in part.events],
        )
        part = _seen_otherwise(part, rng)
        seen = features(part.path[:length], part.fps)
        wanted = targets(part.events, seen.shape[1])
        left = rng.integers(0, length - seen.shape[1] + 1)
        around = ((0, 0), (left, length - left - seen.shape[1]))
        rows.append((np.pad(seen, around), np.pad(wanted, around)))
    seen, wanted = (np.stack(arrays) for arrays in zip(*rows, strict=True))
    return torch.from_numpy(seen), torch.from_numpy(wanted)


def _dribble(rng: np.random.Generator, longest: int) -> _Part:
    """A ball that is bounced on the spot: its height is a row of arcs."""
    frames, period = np.arange(rng.integers(30, longest)), rng.uniform(8, 18)
    first = rng.uniform(0, period)
    arcs = np.abs(np.sin(np.pi * (frames - first) / period)) ** rng.uniform(0.8, 1.2)
    x = rng.uniform(-150, 150) + np.cumsum(rng.normal(0, 0.4, len(frames)))
    y = rng.uniform(-80, 130) - rng.uniform(6, 40) * arcs
    bounces = [(float(frame), "bounce") for frame in np.arange(first, len(frames), period)]
    return _Part(np.stack([x, y], 1), bounces, FPS)


def _seen_otherwise(part: _Part, rng: np.random.Generator) -> _Part:
    """The same flight through another camera and another tracker."""
    path, events, fps = part.path.copy(), part.events, part.fps
    if rng.random() < 0.5:
        path[:, 0] *= -1
    path *= np.exp(rng.normal(0, 0.12)) * np.array([np.exp(rng.normal(0, 0.05)), 1])
    path += rng.normal(0, 12, 2)
    if rng.random() < 0.3:
        path[:, 0] += path[:, 1] * rng.normal(0, 0.1)
    if rng.random() < 0.5:
        pace = rng.uniform(0.8, 1.25)
        path, events, fps = _resampled(path, pace), [(f * pace, k) for f, k in events], fps * pace
    frames = len(path)
    if rng.random() < 0.6:
        path += rng.normal(0, rng.uniform(0.1, 0.8), path.shape)
    if rng.random() < 0.5:
        path[rng.random(frames) < rng.uniform(0, 0.12)] = np.nan
        for start in rng.integers(0, frames, rng.integers(0, 4)):
            path[start : start + rng.integers(1, 7)] = np.nan
        for frame, kind in events:
            if kind == "hit" and rng.random() < 0.25:
                start = max(0, int(frame + rng.integers(-2, 2)))
                path[start : start + rng.integers(1, 5)] = np.nan
    if rng.random() < 0.25:
        false = rng.random(frames) < 0.01
        path[false] = rng.uniform((-256, -144), (256, 144), (false.sum(), 2))
    if np.isnan(path[:, 0]).all():
        return part
    return _Part(path, events, fps)


def _resampled(path: NDArray[np.float64], pace: float) -> NDArray[np.float64]:
    """`pace` times as many frames; straight between two sightings, else the nearer frame."""
    times = np.arange(max(2, int(len(path) * pace))) / pace
    times = times[times <= len(path) - 1]
    before = np.floor(times).astype(int)
    behind = np.minimum(before + 1, len(path) - 1)
    share = (times - before)[:, None]
    mixed = path[before] * (1 - share) + path[behind] * share
    nearer = path[np.where(share[:, 0] < 0.5, before, behind)]
    return np.where(np.isnan(mixed), nearer, mixed)
