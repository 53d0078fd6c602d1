"""Files damaged at random, decoded: none may hang, none may end the run, each is whole or named.

    python -m tests.fuzz --files 1000 --seed 0

Small videos in four containers are mutated in four ways (bytes changed, a stretch overwritten, cut,
a part of the header changed) and read as tracking reads them, but without Ray.  A file is

    refused      no video could be made of it, and the error says why
    named        its index or its report says that something is missing or concealed
    whole        nothing is said, and every frame that its index promises decodes
    unnoticed    whole, but the numbers drawn on its pictures are not those of the sound file: most
                 formats have no checksum, so that a changed byte can give another picture, and a
                 file can end, or lack a frame, where it might well have been made so

A file is a failure when it hangs, ends the run, or has frames that are neither there nor named.  It
is kept, and its name and the seed are printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from tests.videos import make_video, read_number
from tracknet.pipeline.decoding.decoder import Decoder, DecoderLimits
from tracknet.pipeline.errors import VideoError

FRAMES = 24
SUFFIXES = (".mp4", ".mkv", ".ts", ".avi")


class Failure(Exception):
    """A file that hung, ended the run, or is wrong without a word."""


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """A file's bytes, changed in one of four ways."""
    changed = np.frombuffer(data, np.uint8).copy()
    way = rng.integers(4)
    if way == 0:
        places = rng.integers(0, len(changed), rng.integers(1, 20))
        changed[places] ^= rng.integers(1, 256, len(places)).astype(np.uint8)
    elif way == 1:
        start = rng.integers(len(changed))
        stretch = changed[start : start + rng.integers(1, 500)]
        stretch[:] = rng.integers(0, 256, len(stretch))
    elif way == 2:
        return data[: rng.integers(1, len(data))]
    else:
        # Headers stand in the first bytes; in mp4 here at the end, too.
        part = changed[:400] if rng.random() < 0.5 else changed[-1500:]
        places = rng.integers(0, len(part), rng.integers(1, 4))
        part[places] = rng.choice([0, 1, 127, 255], len(places))
    return changed.tobytes()


def judge(decoder: Decoder, path: Path) -> str:
    """What became of a file: refused, named, whole or unnoticed.

    Raises:
        Failure: it is none of them.
    """
    try:
        video = decoder.probe(path)
    except VideoError:
        return "refused"
    reader = decoder.read(video, range(video.frames), 128, 72)
    numbers, frames = [], 0
    for batch in reader:
        frames += batch.count
        numbers += [read_number(picture) for picture in batch.pictures]
    named = video.damage or reader.report.damage
    if not named and frames != video.frames:
        raise Failure(f"{frames} of {video.frames} frames, and nothing is said")
    if named:
        return "named"
    return "whole" if numbers == list(range(FRAMES)) else "unnoticed"


def fuzz(folder: Path, files: int, seed: int) -> Counter[str]:
    """Mutate and judge so many files; counts of what became of them.

    Raises:
        Failure: a file was none of them; it is left in `folder`.
    """
    sound = [
        make_video(folder / f"sound{suffix}", FRAMES, gop=8).read_bytes() for suffix in SUFFIXES
    ]
    counts: Counter[str] = Counter()
    limits = DecoderLimits(deadline_s=20)
    with Decoder(limits) as decoder:
        for i in range(files):
            suffix = SUFFIXES[i % len(SUFFIXES)]
            path = folder / f"{seed}-{i}{suffix}"
            path.write_bytes(mutate(sound[i % len(SUFFIXES)], np.random.default_rng((seed, i))))
            started = time.monotonic()
            try:
                counts[judge(decoder, path)] += 1
            except Exception as error:
                raise Failure(f"{path} (seed {seed}): {type(error).__name__}: {error}") from error
            if (spent := time.monotonic() - started) > 3 * limits.deadline_s + 10:
                raise Failure(f"{path} (seed {seed}): took {spent:.0f} s")
            path.unlink()
    return counts


def main() -> int:
    """The command; 1 when a file failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    started = time.monotonic()
    try:
        counts = fuzz(folder, arguments.files, arguments.seed)
    except Failure as failure:
        print(failure)
        return 1
    print(f"{arguments.files} files in {time.monotonic() - started:.0f} s: {dict(counts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
