"""The worst frames of an evaluation as pictures, for people who would rather look than read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tracknet.jobs.evaluate import Evaluation
from tracknet.pipeline.datasets import clip_id
from tracknet.pipeline.errors import TrackNetError
from tracknet.pipeline.pictures.draw import write_png
from tracknet.pipeline.pictures.errors import draw_error, read_frame
from tracknet.pipeline.scoring.errors import KINDS
from tracknet.schemas.store import Store

EACH = 5  # pictures of a kind of error
_APART = 15  # frames between two of the same clip

log = logging.getLogger(__name__)


def write_pictures(store: Store, found: Evaluation, folder: Path) -> list[Path]:
    """Write up to five frames of each kind of error, `KIND-1.png` and so on.

    Balls with the highest scores come first, missed balls in the order of the clips; two frames of
    a clip are 15 or more apart.  A frame that cannot be decoded is named in the log and left out.

    Returns:
        The files.
    """
    clip_of = {clip_id(clip): clip for clip in found.scored}
    rows = store.read_eval_frames(found.protocol.name)
    written = []
    for kind in KINDS:
        wrong = rows.filter(pc.equal(rows["error"], kind)).sort_by([("score", "descending")])
        for number, row in enumerate(_apart(wrong), 1):
            out, clip = folder / f"{kind}-{number}.png", clip_of[row["video_id"]]
            label, seen = (_place(row, prefix) for prefix in ("label_", ""))
            try:
                picture = read_frame(clip.source, row["frame"])
            except TrackNetError as error:
                log.warning("%s: no picture of frame %d: %s", clip, row["frame"], error)
                continue
            score = "" if row["score"] is None else f", score {row['score']:.2f}"
            caption = f"{kind}: {clip}, frame {row['frame']}{score}"
            write_png(out, draw_error(picture, label, seen, caption))
            written.append(out)
    return written


def _apart(rows: pa.Table) -> list[dict[str, Any]]:
    chosen: list[dict[str, Any]] = []
    for row in rows.to_pylist():
        if all(
            row["video_id"] != one["video_id"] or abs(row["frame"] - one["frame"]) >= _APART
            for one in chosen
        ):
            chosen.append(row)
        if len(chosen) == EACH:
            break
    return chosen


def _place(row: dict[str, Any], prefix: str) -> tuple[float, float] | None:
    x, y = row[f"{prefix}x_px"], row[f"{prefix}y_px"]
    return None if x is None else (x, y)
