"""Results in the formats of other tools, one file per video.

    tracknet-csv    NAME_ball.csv     Frame,Visibility,X,Y, as TrackNetV2's labels
    mot             NAME.txt          MOT Challenge: frame, id, box, confidence
    coco            NAME.json         COCO keypoints, one image per frame
    label-studio    NAME.json         a task with a video rectangle as prediction

Rows are read and written video by video: memory grows with the longest video, not with the archive.
"Not seen" is never a place: a frame without a ball has no line, no annotation, or visibility 0 and
empty cells.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from tracknet.jobs.game import frame_rate
from tracknet.jobs.show import check_results
from tracknet.pipeline.errors import InputError
from tracknet.schemas.errors import TableError
from tracknet.schemas.files import whole_file
from tracknet.schemas.store import Store
from tracknet.schemas.tables import BRIDGED, DETECTED, UNDECODABLE

Format = Literal["tracknet-csv", "mot", "coco", "label-studio"]
FORMATS: tuple[Format, ...] = get_args(Format)
_COLUMNS = ["frame", "time_s", "status", "x_px", "y_px", "score"]
_VISIBILITY = {DETECTED: 1, BRIDGED: 3}  # 3: occluded

Row = Mapping[str, Any]


def export(
    store: Store,
    to: Format,
    folder: Path,
    box_px: float,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Write every published video in another tool's format.

    Args:
        store: the results.
        to: one of FORMATS.
        folder: where; it is made.
        box_px: side of the square around the ball in formats that want boxes, px of the displayed
            picture; tables know its middle only.
        on_progress: called with how many videos are done, and how many there are.

    Returns:
        The files, by source.

    Raises:
        InputError: no results folder, or no such format.
        TableError: a table there is damaged.
    """
    check_results(store)
    if to not in FORMATS:
        raise InputError(f"--to {to}: choose one of {', '.join(FORMATS)}")
    write, ending = _WRITERS[to]
    videos = [m for m in store.manifests() if store.is_published(m["video_id"])]
    names = _names(videos)
    files = []
    for done, (manifest, name) in enumerate(zip(videos, names, strict=True), 1):
        video = _video(store, manifest)
        rows = store.read_trajectory(manifest["video_id"]).select(_COLUMNS).to_pylist()
        out = folder / f"{name}{ending}"
        with whole_file(out) as aside:
            aside.write_text(write(video, rows, box_px), "utf-8")
        files.append(out)
        on_progress(done, len(videos))
    return files


def _video(store: Store, manifest: Row) -> dict[str, Any]:
    try:
        return store.read_video(manifest["video_id"])
    except TableError as error:
        raise TableError(f"{error}; run `tracknet track` over {manifest['source']}") from error


def _names(videos: Sequence[Row]) -> list[str]:
    """A file name for each video: its source's, with some of its id where that is not unique."""
    stems = [Path(video["source"]).stem for video in videos]
    return [
        stem if stems.count(stem) == 1 else f"{stem}-{video['video_id'][:8]}"
        for stem, video in zip(stems, videos, strict=True)
    ]


def _tracknet_csv(video: Row, rows: list[dict[str, Any]], box_px: float) -> str:
    """Frames that could not be decoded have no line: nothing is known of them."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("Frame", "Visibility", "X", "Y"))
    for row in rows:
        if row["status"] != UNDECODABLE:
            place = ("", "") if row["x_px"] is None else (_px(row["x_px"]), _px(row["y_px"]))
            lines.writerow((row["frame"], _VISIBILITY.get(row["status"], 0), *place))
    return text.getvalue()


def _px(value: float) -> str:
    return f"{value:.2f}"


def _mot(video: Row, rows: list[dict[str, Any]], box_px: float) -> str:
    """Frames count from 1; left and top count from 1 too, as MOT Challenge has it."""
    lines = [
        (row["frame"] + 1, 1, _px(x + 1), _px(y + 1), box_px, box_px, f"{row['score']:.4f}")
        for row, x, y in _corners(rows, box_px)
    ]
    return "".join(f"{','.join(map(str, line))},-1,-1,-1\n" for line in lines)


def _coco(video: Row, rows: list[dict[str, Any]], box_px: float) -> str:
    stem = Path(video["source"]).stem
    images = [
        {
            "id": row["frame"] + 1,
            "file_name": f"{stem}/{row['frame']:06d}.jpg",
            "width": video["width"],
            "height": video["height"],
        }
        for row in rows
    ]
    annotations = [
        {
            "id": number,
            "image_id": row["frame"] + 1,
            "category_id": 1,
            "bbox": [x, y, box_px, box_px],
            "area": box_px * box_px,
            "iscrowd": 0,
            "keypoints": [row["x_px"], row["y_px"], 2],
            "num_keypoints": 1,
            "score": row["score"],
        }
        for number, (row, x, y) in enumerate(_corners(rows, box_px), 1)
    ]
    ball = {"id": 1, "name": "ball", "supercategory": "ball", "keypoints": ["ball"], "skeleton": []}
    info = {"description": video["source"]}
    document = {"info": info, "images": images, "annotations": annotations, "categories": [ball]}
    return json.dumps(document)


def _label_studio(video: Row, rows: list[dict[str, Any]], box_px: float) -> str:
    """Label Studio interpolates from a frame of the sequence on unless it is switched off there."""
    width, height, fps = video["width"], video["height"], frame_rate(video)
    seen = {row["frame"] for row, _, _ in _corners(rows, box_px)}
    sequence = [
        {
            "frame": row["frame"] + 1,
            "time": row["frame"] / fps if row["time_s"] is None else row["time_s"],
            "enabled": row["frame"] + 1 in seen,
            "rotation": 0,
            "x": 100 * x / width,
            "y": 100 * y / height,
            "width": 100 * box_px / width,
            "height": 100 * box_px / height,
        }
        for row, x, y in _corners(rows, box_px)
    ]
    value = {
        "framesCount": len(rows),
        "duration": len(rows) / fps,
        "sequence": sequence,
        "labels": ["ball"],
    }
    kind = {"from_name": "box", "to_name": "video", "type": "videorectangle", "id": "ball"}
    predictions = [{"model_version": "tracknet", "result": [{**kind, "value": value}]}]
    return json.dumps([{"data": {"video": video["source"]}, "predictions": predictions}])


def _corners(
    rows: list[dict[str, Any]], box_px: float
) -> Iterator[tuple[dict[str, Any], float, float]]:
    """The rows in which the ball was seen, and the left and upper edge of the box around it.

    Pixel centres lie at integers here; in boxes the picture's own left edge is 0.
    """
    for row in rows:
        if row["status"] == DETECTED:
            half = box_px / 2 - 0.5
            yield row, row["x_px"] - half, row["y_px"] - half


_WRITERS: dict[str, tuple[Callable[[Row, list[dict[str, Any]], float], str], str]] = {
    "tracknet-csv": (_tracknet_csv, "_ball.csv"),
    "mot": (_mot, ".txt"),
    "coco": (_coco, ".json"),
    "label-studio": (_label_studio, ".json"),
}
