"""Find labelled clips under a folder, in any of the published layouts.

* TrackNetV2: `.../SPORT/MATCH/video/NAME.mp4` with `MATCH/csv/NAME_ball.csv` or `NAME.csv` there.
  Our synthetic rallies have this layout too.
* TrackNet tennis: `.../SPORT/GAME/CLIP/` with frames `0000.jpg`, ... and a `Label.csv`.

Both may stand side by side under one root.  A `clips.csv` in the root (columns sport, match, clip,
split and, if wanted, test_set, width, height, frames) says which clips there are and to which split
they belong:

    clips = find_clips(root)
    train, val = by_split(clips, "train"), by_split(clips, "val")

Without one, `hold_out` cuts by clip or by match, and `pipeline.datasets.windowed.paper_split`
repeats the leaking cut of the paper's release.

This module reads names and headers; it decodes nothing and knows nothing of windows.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tracknet.pipeline.decoding.decoder import Decoder
from tracknet.pipeline.decoding.probe import list_pictures
from tracknet.pipeline.errors import InputError

VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm"}
_TENNIS_LABELS = "Label.csv"
_INDEX = "clips.csv"


@dataclass(frozen=True)
class Clip:
    """One labelled rally, not yet decoded.

    Attributes:
        sport, match, name: who it is; unique together under a root.
        source: a video file or a folder of frames.
        labels: its label file.
        width, height: source px, as displayed.
        frames: frames that the container presents.
        split: "train", "val", "test" or "" if unknown.
        test_set: what a test clip tests, "" otherwise.
    """

    sport: str
    match: str
    name: str
    source: Path
    labels: Path
    width: int
    height: int
    frames: int
    split: str = ""
    test_set: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the source in px."""
        return self.width, self.height

    @property
    def key(self) -> tuple[str, str, str]:
        return self.sport, self.match, self.name

    def __str__(self) -> str:
        return "/".join(self.key)


def find_clips(root: Path) -> list[Clip]:
    """All labelled clips under a root, ordered by sport, match and name.

    Args:
        root: a folder that holds clips of either layout at any depth, with or without `clips.csv`.

    Raises:
        InputError: there is no clip, a video has no labels, or `clips.csv` names a clip that is
            not there, names one twice, or lacks a column.
        VideoError: a video cannot be opened.
        MachineError: a video cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    places = {place[:3]: place for place in _places(root)}
    if not places:
        raise InputError(
            f"{root}: no labelled clip found; expected MATCH/video/NAME.mp4 with "
            f"MATCH/csv/NAME_ball.csv, or CLIP/{_TENNIS_LABELS} beside pictures"
        )
    index = root / _INDEX
    with Decoder() as decoder:
        if index.exists():
            clips = list(_from_index(index, places, decoder))
        else:
            clips = [place.probed(decoder) for place in places.values()]
    return sorted(clips, key=lambda clip: clip.key)


def by_split(clips: Sequence[Clip], split: str) -> list[Clip]:
    """The clips of one split.

    Raises:
        InputError: there is none.
    """
    chosen = [clip for clip in clips if clip.split == split]
    if not chosen:
        known = sorted({c.split for c in clips} - {""})
        raise InputError(f"no clip is in split {split!r}; splits here: {known}")
    return chosen


def hold_out(
    clips: Sequence[Clip], unit: Literal["clip", "match"], *, share: float = 0.3, seed: int = 42
) -> list[Clip]:
    """Mark whole clips, or whole matches, as split "val" and the rest as "train".

    Units are drawn in a seeded order until at least `share` of the frames is held out.  By `match`
    is the honest cut: nothing of a held-out venue is seen in training.

    Raises:
        InputError: fewer than two units, so nothing can be held out.
    """
    unit_of = {c.key: c.key if unit == "clip" else c.key[:2] for c in clips}
    units = sorted(set(unit_of.values()))
    if len(units) < 2:
        raise InputError(f"cannot hold out a {unit}: there is only {len(units)}")
    np.random.default_rng(seed).shuffle(units)
    wanted = share * sum(c.frames for c in clips)
    held: set[tuple[str, ...]] = set()
    for candidate in map(tuple, units[:-1]):
        if sum(c.frames for c in clips if unit_of[c.key] in held) >= wanted:
            break
        held.add(candidate)
    return [replace(c, split="val" if unit_of[c.key] in held else "train") for c in clips]


class _Place(NamedTuple):
    """Where a clip lies: all that names alone tell, and the first fields of a `Clip`."""

    sport: str
    match: str
    name: str
    source: Path
    labels: Path

    def probed(self, decoder: Decoder, split: str = "", test_set: str = "") -> Clip:
        video = decoder.probe(self.source)
        return Clip(*self, video.width, video.height, video.frames, split, test_set)


def _places(root: Path) -> Iterator[_Place]:
    # Absolute, so that a root given as "." still has a name to call the sport by.
    for folder in sorted(p for p in root.resolve().rglob("*") if p.is_dir()):
        sport, match = folder.parents[1].name, folder.parent.name
        labels = folder / _TENNIS_LABELS
        if folder.name == "video":
            for video in sorted(folder.iterdir()):
                if video.suffix.lower() in VIDEO_SUFFIXES:
                    yield _Place(sport, match, video.stem, video, _labels_of(video))
        elif labels.exists():
            yield _Place(sport, match, folder.name, folder, labels)


def _labels_of(video: Path) -> Path:
    csv_folder = video.parents[1] / "csv"
    candidates = [csv_folder / f"{video.stem}{end}" for end in ("_ball.csv", ".csv")]
    labels = next((path for path in candidates if path.exists()), None)
    if labels is None:
        raise InputError(f"{video}: no label file; expected {candidates[0]}")
    return labels


def _from_index(
    index: Path, places: dict[tuple[str, str, str], _Place], decoder: Decoder
) -> Iterator[Clip]:
    with index.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        missing = {"sport", "match", "clip", "split"} - set(rows.fieldnames or ())
        if missing:
            raise InputError(f"{index}:1: lacks the column(s) {', '.join(sorted(missing))}")
        seen = set()
        for row in rows:
            key = (row["sport"], row["match"], row["clip"])
            if key in seen or key not in places:
                problem = "is listed twice" if key in seen else "is not there"
                raise InputError(f"{index}:{rows.line_num}: clip {'/'.join(key)} {problem}")
            seen.add(key)
            yield _indexed(places[key], row, decoder)


def _indexed(place: _Place, row: dict[str, str], decoder: Decoder) -> Clip:
    split, test_set = row["split"] or "", row.get("test_set") or ""
    try:
        width, height, frames = (int(row[name]) for name in ("width", "height", "frames"))
    except (KeyError, TypeError, ValueError):
        return place.probed(decoder, split, test_set)
    # Probing a hundred videos takes a quarter of a minute; decoding checks the numbers anyway.
    return Clip(*place, width, height, frames, split, test_set)


def check_pictures(folder: Path) -> list[Path]:
    """The frames of a folder of pictures, numbered 0, 1, 2, ... without a gap.

    Labels name pictures by number, so a missing picture would shift every label behind it.

    Raises:
        InputError: a picture is missing or not named by a number.
    """
    pictures = list_pictures(folder)
    for number, picture in enumerate(pictures):
        if not picture.stem.isdigit() or int(picture.stem) != number:
            raise InputError(f"{picture}: expected frame number {number} here")
    return pictures
