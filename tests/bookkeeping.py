"""An archive and a results folder to be ill-treated, and a run's bookkeeping over them.

No Ray and no model: what stands in for them makes rows out of a file's bytes, so that a test can
say which content a row came from.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.videos import make_video, truncate
from tracknet.jobs.plan import video_from_row, video_row
from tracknet.jobs.run import Maker, Run, TrackReport
from tracknet.jobs.settings import TrackSettings
from tracknet.jobs.sources import find_sources
from tracknet.jobs.stages import FRAME_ROW
from tracknet.pipeline.decoding.probe import probe
from tracknet.pipeline.decoding.video import Video
from tracknet.pipeline.errors import VideoError
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.engine import DetectorSettings
from tracknet.schemas.folder import ResultKey
from tracknet.schemas.store import Store
from tracknet.schemas.tables import DERIVED, STATUSES, TRAJECTORIES

KEY = ResultKey("a" * 64, {"stride": 3})
SPEC = WindowSpec(3, (0, 1, 2))
PROBLEMS = {"cut", "text"}
"""Contents with which something is wrong: frames that cannot be decoded, no video at all."""


def make_contents(folder: Path) -> dict[str, bytes]:
    """Bytes of small videos by name, and of one cut off, and of one that is none."""
    lengths = {"one": 4, "two": 7, "three": 40, "cut": 30}
    made = {
        name: make_video(folder / f"{name}.mp4", n, 32, 32, gop=10, faststart=True)
        for name, n in lengths.items()
    }
    truncate(made["cut"], 0.8)
    return {name: path.read_bytes() for name, path in made.items()} | {"text": b"no video"}


def manifest_of(video_id: str, source: str, problems: tuple[dict[str, Any], ...] = ()) -> Any:
    """What a manifest says of a video that some run published."""
    names = {"video_id": video_id, "source": source, "copies": [], "problems": list(problems)}
    return {**names, "run_id": "r", "result_key": KEY.digest, **dict.fromkeys(STATUSES, 0)}


class Killed(BaseException):
    """The process died here."""


class Probe:
    """Probes in this process, each content once."""

    known: ClassVar[dict[str, Video | VideoError]] = {}

    def __init__(self, *_: Any) -> None: ...

    def close(self) -> None: ...

    def probe(self, path: Path) -> Video:
        digest = sha256(path.read_bytes()).hexdigest()
        if digest not in self.known:
            try:
                self.known[digest] = probe(path, lambda: None)
            except VideoError as error:
                self.known[digest] = error
        found = self.known[digest]
        if isinstance(found, VideoError):
            raise VideoError(f"{path}: not a video")
        return replace(found, source=str(path), mtime_ns=path.stat().st_mtime_ns)


def expected(content: bytes, frame: int) -> float:
    """`x_px` of the ball that is found in a frame of a file."""
    return float(sha256(content + bytes([frame])).digest()[0] % 30)


def detect(store: Store, shards: list[dict[str, Any]]) -> Iterator[pa.Table]:
    """What the two stages do, in small: frame rows of each shard, then its end row."""
    for shard in shards:
        video = video_from_row(store.read_video(shard["video_id"]))
        base = {"video_id": video.video_id, "shard_first": shard["first"]}
        owned = range(shard["first"], shard["stop"])
        report: dict[str, Any] = {"owned": [owned.start, owned.stop], "answered": 0}
        report |= {
            "node": "here",
            "decoders": ["test"],
            "attempts": 1,
            "errors": [],
            "damage": None,
        }
        try:
            content = Path(video.source).read_bytes()
        except OSError as error:
            report["machine"] = str(error)
            owned = range(0)
        lost = set(owned) & set(range(20, 25)) if video.damage else set()
        found = [frame for frame in owned if frame not in lost]
        if lost:
            report["damage"] = "frames cannot be decoded"
        report["answered"] = len(found)
        same = {**base, "decoded": True, "model_s": 0.0, "began": 0.0, "node": "here"}
        rows = [
            {
                **same,
                "frame": frame,
                "candidates": [{"x_px": expected(content, frame), "y_px": 1.0, "score": 1.0}],
            }
            for frame in found
        ]
        yield pa.Table.from_pylist(rows, FRAME_ROW)
        end = {**base, "report": json.dumps({**report, "decode_s": 0.0})}
        yield pa.Table.from_pylist([end], FRAME_ROW)


class Archive:
    """Videos in `folder`, results in `out`."""

    def __init__(self, root: Path, contents: dict[str, bytes]) -> None:
        self.folder, self.out = root / "archive", root / "out"
        self.contents = contents
        self.clock = itertools.count(1_700_000_000)
        self.folder.mkdir(parents=True)

    def put(self, name: str, content: str | bytes) -> Path:
        """Write or replace a file; no two writes have the same time."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.contents[content] if isinstance(content, str) else content)
        self.touch(path)
        return path

    def touch(self, path: Path) -> None:
        os.utime(path, ns=(0, next(self.clock) * 10**9))

    def files(self) -> dict[str, bytes]:
        """Content by source."""
        return {str(p): p.read_bytes() for p in sorted(self.folder.rglob("*")) if p.is_file()}

    def run(
        self,
        *names: str,
        fresh: bool = False,
        work: Any = detect,
        courts: Any = None,
        **options: Any,
    ):
        """Track all of the archive, or the named files."""
        inputs = [str(self.folder / name) for name in names] or [str(self.folder)]
        chosen = TrackSettings(
            "none", detector=DetectorSettings(link=None), shard_seconds=0.3, **options
        )
        store = Store(self.out)

        @contextmanager
        def opened(used: Store):
            yield lambda shards: work(used, shards)

        maker = Maker(KEY, SPEC, 3, Path("none"), "none", "none", 1, {})
        with store.lock():
            sources = find_sources(inputs)
            run = Run(sources, store, chosen, maker, opened, fresh, decoder=Probe, courts=courts)
            return run.execute()

    def check(self, report: TrackReport) -> None:
        """Hold what readers find against what the archive is now."""
        files, tables = self.files(), published(self.out)
        bad = {source for source, content in files.items() if self.is_bad(content)}
        assert {row["source"] for row in report.quarantined} == bad
        assert report.failed == []
        rows = [r for p in (self.out / "videos").glob("*.parquet") for r in pq.read_table(p)
                .to_pylist()]  # fmt: skip
        videos = {row["video_id"]: row for row in rows}
        names = [s for row in rows for s in (row["source"], *row["copies"])]
        assert len(names) == len(set(names)), "a source with two videos"
        assert {i: t["source"][0].as_py() for i, t in tables.items()} == {
            i: videos[i]["source"] for i in tables
        }
        of_source = {s: i for i, r in videos.items() for s in (r["source"], *r["copies"])}
        for source, content in files.items():
            if content == self.contents["text"]:
                assert source not in of_source
                continue
            table = tables[of_source[source]]
            n = videos[of_source[source]]["frames"]
            assert set(table["source"].to_pylist()) <= set(files), "a name that is gone"
            assert table["frame"].to_pylist() == list(range(n))
            lost = range(20, 25) if content == self.contents["cut"] else ()
            right = [None if f in lost else expected(content, f) for f in range(n)]
            assert table["x_px"].to_pylist() == right
        for name in DERIVED:
            derived = published(self.out, name)
            assert derived.keys() == tables.keys()
            for i, table in derived.items():
                assert set(table["source"].to_pylist()) <= {videos[i]["source"]}
        quarantine = [
            row["source"]
            for path in (self.out / "quarantine").glob("*.parquet")
            for row in pq.read_table(path).to_pylist()
        ]
        assert set(quarantine) & set(files) == bad

    def is_bad(self, content: bytes) -> bool:
        return content in (self.contents[name] for name in PROBLEMS)


def published(out: Path, name: str = "trajectories") -> dict[str, pa.Table]:
    """What a reader finds in `trajectories/*.parquet`, by video."""
    tables = {path.stem: pq.read_table(path) for path in (out / name).glob("*.parquet")}
    for video_id, table in tables.items():
        assert set(table["video_id"].to_pylist()) <= {video_id}
    return tables


@contextmanager
def killed_at(number: int, below: Path) -> Iterator[None]:
    """Die at the `number`-th change of a file name below a folder; nothing is written after it.

    Every file of ours becomes visible, and goes, by such a change.
    """
    left = [number]

    def dying(change: Any) -> Any:
        def changed(path: Path, *rest: Any, **options: Any) -> Any:
            if path.is_relative_to(below):
                left[0] -= 1
                if left[0] <= 0:
                    raise Killed
            return change(path, *rest, **options)

        return changed

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "rename", "unlink"):
            patch.setattr(Path, name, dying(getattr(Path, name)))
        try:
            yield
        except Killed:
            shutil.rmtree(below / "nowhere", ignore_errors=True)


TWO_IDS = ("a" * 32, "b" * 32)
_FIVE = [
    ("detected", 10.5, 20.25),
    ("absent", None, None),
    ("bridged", 14.5, 22.25),
    ("undecodable", None, None),
    ("detected", 0.0, 0.0),
]


def two_results(folder: Path) -> Path:
    """A results folder with two videos of five frames and of the same name."""
    store = Store(folder / "tables")
    store.claim(KEY)
    with store.lock():
        for video_id, where in zip(TWO_IDS, ("one", "two"), strict=True):
            video = make_video(folder / where / "final.mp4", 5, 64, 48)
            row = video_row(probe(video, lambda: None), [])
            store.write_video(row | {"video_id": video_id})
            rows = [
                {"video_id": video_id, "source": str(video), "frame": frame, "pts": frame,
                 "time_s": frame / 25, "status": status, "x_px": x, "y_px": y,
                 "visible": None if status == "undecodable" else status == "detected",
                 "score": 0.75 if status == "detected" else None}
                for frame, (status, x, y) in enumerate(_FIVE)
            ]  # fmt: skip
            table = pa.Table.from_pylist(rows, TRAJECTORIES)
            store.publish(table, manifest_of(video_id, str(video)), {})
    return store.root
