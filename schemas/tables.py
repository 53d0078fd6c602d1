"""The tables: the contract with everyone downstream.

Each table is an Arrow schema whose fields carry their unit and meaning as metadata, so that the
Parquet files explain themselves.  Coordinates are pixels of the source picture as displayed, origin
top left, pixel centres at integers.  A missing value is null, never 0, -1 or NaN.

>>> TRAJECTORIES.field("x_px").metadata[b"unit"]
b'px'

`SCHEMA_VERSION` grows with every change of a field's name, type or meaning.  A field that came
later says since which version; readers find null in older files.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 5

DETECTED = "detected"
BRIDGED = "bridged"
ABSENT = "absent"
UNDECODABLE = "undecodable"
STATUSES = (DETECTED, BRIDGED, ABSENT, UNDECODABLE)


def _field(
    name: str, kind: pa.DataType, unit: str, meaning: str, *, null: bool = False, since: int = 0
) -> pa.Field:
    about = {"unit": unit, "description": meaning} | ({"since": str(since)} if since else {})
    return pa.field(name, kind, nullable=null or bool(since), metadata=about)


CANDIDATES = pa.list_(
    pa.struct(
        [
            _field("x_px", pa.float32(), "px", "centre, source pixels from the left"),
            _field("y_px", pa.float32(), "px", "centre, source pixels from the top"),
            _field("score", pa.float32(), "1", "highest probability of the blob"),
        ]
    )
)

THUMBNAIL = pa.binary(16 * 9 * 3)

TRAJECTORIES = pa.schema(
    [
        _field("video_id", pa.string(), "", "content fingerprint of the video"),
        _field("source", pa.string(), "", "path or URI as found"),
        _field("frame", pa.int32(), "frame", "0-based index in order of presentation"),
        _field("pts", pa.int64(), "ticks", "presentation timestamp, in the video's time base"),
        _field("time_s", pa.float64(), "s", "pts in seconds; null without a clock", null=True),
        _field("status", pa.string(), "", "detected, bridged (out of sight), absent, undecodable"),
        _field("visible", pa.bool_(), "", "a ball was seen; null when undecodable", null=True),
        _field("x_px", pa.float32(), "px", "ball centre, source pixels from the left", null=True),
        _field("y_px", pa.float32(), "px", "ball centre, source pixels from the top", null=True),
        _field("x_norm", pa.float32(), "1", "(x_px + 0.5) / width, in [0, 1]", null=True),
        _field("y_norm", pa.float32(), "1", "(y_px + 0.5) / height, in [0, 1]", null=True),
        _field("score", pa.float32(), "1", "highest probability of the ball's blob", null=True),
        _field("shot", pa.int32(), "", "0-based number of the camera shot in the video", since=5),
        _field("view", pa.string(), "", "what the shot shows: rally, or other", since=5),
    ]
)

VIDEOS = pa.schema(
    [
        _field("video_id", pa.string(), "", "content fingerprint, 32 hex digits of SHA-256"),
        _field("source", pa.string(), "", "path or URI as found"),
        _field("copies", pa.list_(pa.string()), "", "other paths with the very same content"),
        _field("kind", pa.string(), "", "file, or frames (a folder of pictures)"),
        _field("container", pa.string(), "", "container format, FFmpeg's name"),
        _field("codec", pa.string(), "", "video codec, FFmpeg's name"),
        _field("width", pa.int32(), "px", "picture width as displayed"),
        _field("height", pa.int32(), "px", "picture height as displayed"),
        _field("rotation", pa.int16(), "deg", "turn for display, counter-clockwise"),
        _field("mirrored", pa.bool_(), "", "left and right are swapped before the turn"),
        _field(
            "crop",
            pa.list_(pa.int32()),
            "px",
            "left, top, width, height of the part of the "
            "stored picture that is shown; null for all of it",
            null=True,
        ),
        _field("time_base_num", pa.int64(), "", "time base, numerator", null=True),
        _field("time_base_den", pa.int64(), "1/s", "time base, denominator", null=True),
        _field("frames", pa.int32(), "frame", "frames that the container presents"),
        _field("announced_frames", pa.int64(), "frame", "frames that its header claims; 0: none"),
        _field("duration_s", pa.float64(), "s", "first to last frame", null=True),
        _field("size_bytes", pa.int64(), "byte", "file size"),
        _field("mtime_ns", pa.int64(), "ns", "modification time"),
        _field("seekable", pa.bool_(), "", "false: decoded from its start in one shard"),
        _field("paired", pa.bool_(), "", "every packet gives one picture, in order of pts"),
        _field("damage", pa.string(), "", "what the container is missing", null=True),
        _field("note", pa.string(), "", "what to know of the rows, as: no clock", null=True),
        _field("pts", pa.list_(pa.int64()), "ticks", "presentation timestamp of each frame"),
        _field("keyframes", pa.list_(pa.int64()), "", "frame, pts, dts of each keyframe, flat"),
    ]
)

QUARANTINE = pa.schema(
    [
        _field("source", pa.string(), "", "path or URI as found"),
        _field("video_id", pa.string(), "", "content fingerprint, when it was known", null=True),
        _field("shard_first", pa.int32(), "frame", "first frame of the shard", null=True),
        _field("shard_stop", pa.int32(), "frame", "frame behind the shard's last", null=True),
        _field("stage", pa.string(), "", "probe or decode"),
        _field("error", pa.string(), "", "what is wrong"),
        _field("attempts", pa.int32(), "", "how often it was tried"),
    ]
)

RUNS = pa.schema(
    [
        _field("run_id", pa.string(), "", "start time (UTC) and a random tail"),
        _field("status", pa.string(), "", "running, done, partial, failed or interrupted"),
        _field("started", pa.timestamp("us", tz="UTC"), "", "start"),
        _field("finished", pa.timestamp("us", tz="UTC"), "", "end", null=True),
        _field("result_key", pa.string(), "", "hash of weights, settings and schema version"),
        _field("weights", pa.string(), "", "name or path of the weights"),
        _field("weights_hash", pa.string(), "", "SHA-256 of the weights file"),
        _field("settings", pa.string(), "", "all settings, JSON"),
        _field("versions", pa.string(), "", "versions of the software, JSON"),
        _field("videos", pa.int64(), "", "videos published by this run"),
        _field("videos_skipped", pa.int64(), "", "videos that were complete before"),
        _field("videos_quarantined", pa.int64(), "", "unreadable or partly unreadable videos"),
        _field("frames", pa.int64(), "frame", "frames processed by this run"),
        _field("frames_detected", pa.int64(), "frame", "of these, with a ball"),
        _field("wall_s", pa.float64(), "s", "duration of the run", null=True),
        _field("decode_s", pa.float64(), "s", "decoding, summed over workers"),
        _field("model_s", pa.float64(), "s", "model and peaks, summed over workers"),
        _field("commit_s", pa.float64(), "s", "writing tables"),
    ]
)

EVENTS = pa.schema(
    [
        _field("video_id", pa.string(), "", "content fingerprint of the video"),
        _field("source", pa.string(), "", "as in trajectories"),
        _field("frame", pa.int32(), "frame", "0-based index of the frame nearest to it"),
        _field("time_s", pa.float64(), "s", "of the moment itself, between frames", null=True),
        _field("kind", pa.string(), "", "hit or bounce"),
        _field("x_px", pa.float32(), "px", "displayed picture"),
        _field("y_px", pa.float32(), "px", "displayed picture"),
        _field("score", pa.float32(), "1", "how likely"),
        _field("offset", pa.float32(), "frame", "from `frame` to the moment itself"),
        _field("speed_before", pa.float32(), "px/s", "of the ball, in the picture", null=True),
        _field("speed_behind", pa.float32(), "px/s", "likewise, after the event", null=True),
        _field("x_m", pa.float32(), "m", "bounces on a court: from its middle, right", since=5),
        _field("y_m", pa.float32(), "m", "likewise, away from the camera", since=5),
        _field("in_court", pa.bool_(), "", "bounces on a court: within its lines", since=5),
        _field("speed_kmh", pa.float32(), "km/h", "ball behind a hit, estimated", since=5),
    ]
)

RALLIES = pa.schema(
    [
        _field("video_id", pa.string(), "", "content fingerprint of the video"),
        _field("source", pa.string(), "", "as in trajectories"),
        _field("rally", pa.int32(), "", "0-based number in the video"),
        _field("first_frame", pa.int32(), "frame", "of its first hit"),
        _field("last_frame", pa.int32(), "frame", "of its last event"),
        _field("start_s", pa.float64(), "s", "time of the first hit", null=True),
        _field("end_s", pa.float64(), "s", "time of the last event", null=True),
        _field("hits", pa.int32(), "", "how many"),
        _field("bounces", pa.int32(), "", "how many"),
        _field("duration_s", pa.float64(), "s", "from first to last event"),
        _field("longest_pause_s", pa.float64(), "s", "between two events in a row"),
        _field("end", pa.string(), "", "the last event: hit, bounce or second bounce"),
    ]
)

SHOTS = pa.schema(
    [
        _field("video_id", pa.string(), "", "content fingerprint of the video"),
        _field("source", pa.string(), "", "as in trajectories"),
        _field("shot", pa.int32(), "", "0-based number in the video"),
        _field("first_frame", pa.int32(), "frame", "the first one behind the cut"),
        _field("last_frame", pa.int32(), "frame", "the last one before the next cut"),
        _field("start_s", pa.float64(), "s", "time of the first frame", null=True),
        _field("end_s", pa.float64(), "s", "time of the last frame", null=True),
        _field("view", pa.string(), "", "rally: the view of most of the video; or other"),
        _field("ball_share", pa.float32(), "1", "decoded frames with a ball", null=True),
    ]
)

DERIVED = {"events": EVENTS, "rallies": RALLIES, "shots": SHOTS}
"""Tables that follow from a video's trajectory, and from its courts, alone."""

DERIVED_VERSION = 3
"""Grows where other tables follow from the same rows, as with new networks for events.

Those of older results are made again then, without decoding."""

_PROTOCOL = [
    _field("space", pa.string(), "", "model: px at 512x288, as published; source: source px"),
    _field("tolerance_px", pa.float64(), "px of space", "a hit is strictly closer"),
]

EVAL_FRAMES = pa.schema(
    [
        _field("video_id", pa.string(), "", "content fingerprint of the video"),
        _field("sport", pa.string(), "", "as the labels name it"),
        _field("match", pa.string(), "", "as the labels name it"),
        _field("clip", pa.string(), "", "as the labels name it"),
        _field("split", pa.string(), "", "train, val, test; empty if unknown"),
        _field("test_set", pa.string(), "", "what a test clip tests; empty otherwise"),
        _field("frame", pa.int32(), "frame", "0-based index; frames without a label have no row"),
        _field("visibility", pa.int8(), "", "label: 0 absent, 1 clear, 2 hard to see, 3 occluded"),
        _field("outcome", pa.string(), "", "TP, FP1 (too far), FP2 (no ball there), TN, FN"),
        _field("error_px", pa.float64(), "px of space", "label to prediction", null=True),
        _field("error", pa.string(), "", "kind of error; null where right", null=True),
        _field("label_x_px", pa.float64(), "px", "label, source pixels", null=True),
        _field("label_y_px", pa.float64(), "px", "label, source pixels", null=True),
        _field("x_px", pa.float32(), "px", "prediction, source pixels", null=True),
        _field("y_px", pa.float32(), "px", "prediction, source pixels", null=True),
        _field("score", pa.float32(), "1", "of the prediction", null=True),
        *_PROTOCOL,
    ]
)

_FIGURES = {
    "accuracy": "(TP + TN) / frames",
    "precision": "TP / (TP + FP1 + FP2)",
    "recall": "TP / (TP + FN); FP1 is not counted",
    "f1": "harmonic mean of precision and recall",
}

EVAL_METRICS = pa.schema(
    [
        _field("grouping", pa.string(), "", "all, split, test_set, sport, match, clip, visibility"),
        _field("group", pa.string(), "", "value of `grouping`"),
        _field("min_score", pa.float64(), "1", "balls with a lower score count as absent"),
        *_PROTOCOL,
        _field("clips", pa.int32(), "", "clips that were scored"),
        _field("frames", pa.int64(), "frame", "labelled frames that were scored"),
        *(
            _field(name, pa.int64(), "frame", f"frames with outcome {name.upper()}")
            for name in ("tp", "fp1", "fp2", "tn", "fn")
        ),
        *(_field(n, pa.float64(), "1", meaning, null=True) for n, meaning in _FIGURES.items()),
        *(
            _field(f"{name}_{end}", pa.float64(), "1", f"95 % interval of {name}", null=True)
            for name in _FIGURES
            for end in ("low", "high")
        ),
    ]
)

EVAL_ERRORS = pa.schema(
    [
        _field("grouping", pa.string(), "", "all, split, test_set, sport"),
        _field("group", pa.string(), "", "value of `grouping`"),
        *_PROTOCOL,
        _field("error", pa.string(), "", "missed_still, missed_moving, fixture, near_miss, far, "
               "false_alarm"),
        _field("frames", pa.int64(), "frame", "frames with this error"),
        _field("share", pa.float64(), "1", "of the group's labelled frames"),
    ]
)  # fmt: skip

STAGED = pa.schema(
    [
        _field("frame", pa.int32(), "frame", "0-based index in order of presentation"),
        _field("decoded", pa.bool_(), "", "whether the frame has a picture"),
        _field("candidates", CANDIDATES, "", "what may be the ball, strongest first"),
        _field("thumbnail", THUMBNAIL, "", "the frame, tiny; see tracking.shots", null=True),
    ]
)
"""A shard's rows between detection and publication; not for readers."""
