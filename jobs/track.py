"""The main job: an archive of videos goes in, one row per frame comes out.

    plan ──▶ shards ──▶ [Ray Data: DecodeStage ──▶ DetectStage] ──▶ Committer ──▶ tables

Ray Data streams shards through the two pools with back-pressure; the driver takes frame rows as
they come and commits them.  Whatever is killed, the same call again does only what is missing.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import ray

from tracknet.jobs.choice import choose_model
from tracknet.jobs.cluster import count_gpus, ray_session
from tracknet.jobs.commit import Committer, CommitTotals, unreadable_row
from tracknet.jobs.plan import Plan, make_plan
from tracknet.jobs.settings import TrackSettings
from tracknet.jobs.stages import DecodeStage, DetectStage, ModelFiles
from tracknet.pipeline.models.blocks import window_spec
from tracknet.pipeline.models.checkpoint import load_model
from tracknet.schemas.store import ResultKey, Store

log = logging.getLogger(__name__)
SHARDS_PER_WAVE = 2048  # bounds what the driver and Ray keep of an archive of any size
QUEUE_BYTES = 256 << 20  # pictures that may wait between the stages; more for more workers
QUEUED_CHUNKS = 6  # for each worker and model, at least, so that none waits for room
MODELS_PER_GPU = 2  # while one puts its next batch together, the GPU computes the other's
CHUNK, GPU_CHUNK = 24, 96  # frames in one message; a GPU answers so fast that messages cost
# Ray Data looks ten times a second at what is done and a model's next work must wait there: with
# 2 messages each, as Ray would have it, a fast model got 8 messages a second, with 8 twice as many.
MESSAGES_PER_MODEL = 8
_BLOCK_BYTES = 16 << 20
_PACKAGES = (
    "tracknet",
    "torch",
    "openvino",
    "ray",
    "decord",
    "av",
    "opencv-python-headless",
    "numpy",
    "pyarrow",
)


@dataclass(frozen=True)
class TrackProgress:
    """Where a run stands.

    Attributes:
        stage: `probe`, `start` or `track`.
        done, total: sources while probing, frames while tracking.
        videos, videos_total: published and expected.
    """

    stage: str
    done: int
    total: int
    videos: int = 0
    videos_total: int = 0


@dataclass(frozen=True)
class TrackReport:
    """What a run did.

    Attributes:
        run_id: its row in the runs table.
        videos: published by this run.
        skipped: complete before.
        models: that worked side by side.
        runtime: what computed them, nothing left to `auto`.
        frames, detected: rows made by this run, and those with a ball.
        quarantined: what is wrong, by source, also from runs before; see `schemas.tables`.
        seconds: wall, decode, model, commit; start, until Ray ran; ready, until the model took its
            first frames; committed, until the last manifest (Ray ends after it).
    """

    run_id: str
    videos: int
    skipped: int
    models: int
    runtime: str
    frames: int
    detected: int
    quarantined: list[dict[str, Any]]
    seconds: dict[str, float]


OnProgress = Callable[[TrackProgress], None]


def track(
    sources: list[Path],
    out: Path,
    settings: TrackSettings,
    fresh: bool = False,
    on_progress: OnProgress = lambda _: None,
) -> TrackReport:
    """Track all sources into the tables of `out`.

    Args:
        sources: from `jobs.sources.find_sources`.
        out: output folder; with a cluster it must be storage that all nodes share.
        settings: of the run.
        fresh: delete what is there and start again.
        on_progress: called often, from this thread.

    Raises:
        MixedResults, Locked: see `schemas.store`.
        InputError, WeightsError: settings or weights cannot be used.
    """
    store = Store(out.absolute())  # workers of Ray have working folders of their own
    with store.lock():
        if fresh:
            store.clear()
        return _Run(sources, store, settings, on_progress).execute()


class _Run:
    """One run: the steps in order, and what they share."""

    def __init__(
        self, sources: list[Path], store: Store, settings: TrackSettings, on_progress: OnProgress
    ) -> None:
        self.sources = sources
        self.store = store
        self.on_progress = on_progress
        chosen = choose_model(settings)
        self.weights, self.info, self.choice = chosen.weights, chosen.info, chosen.runtime
        self.quantized = chosen.quantized
        self.spec = window_spec(load_model(self.weights))
        self.stride = settings.detector.stride_for(self.spec)
        self.on_gpu = self.choice.device != "cpu"
        self.models = max(1, count_gpus()) * MODELS_PER_GPU if self.on_gpu else 1
        self.settings = replace(
            settings,
            workers=settings.workers or default_workers(),
            chunk_frames=settings.chunk_frames or (GPU_CHUNK if self.on_gpu else CHUNK),
        )
        now = datetime.now(UTC)
        self.started = now
        self.run_id = f"{now:%Y%m%dT%H%M%S}-{uuid4().hex[:6]}"

    def execute(self) -> TrackReport:
        clock = time.perf_counter()
        plan = make_plan(
            self.sources,
            self.spec,
            self.stride,
            self.settings.shard_seconds,
            self.settings.decoder,
            self.store,
            lambda done: self.on_progress(TrackProgress("probe", done, len(self.sources))),
        )
        for unreadable in plan.unreadable:
            self.store.write_quarantine(unreadable.source, [unreadable_row(unreadable)])
        self.on_progress(TrackProgress("start", 0, plan.frames, 0, len(plan.videos)))
        network = self.quantized.hash if self.quantized else None
        deciding = self.settings.deciding(self.stride, self.choice, network)
        key = ResultKey(self.info.hash, deciding)
        self.store.claim(key)
        committer = Committer(
            self.store, key, self.settings.detector, self.run_id, self._metadata(key)
        )
        todo, skipped = self._todo(plan)
        self._write_run(key, "running", committer.totals, skipped, None)
        log.info(
            "run %s: %d videos, %d frames to do; %d complete before, %d unreadable; %s on %s",
            *(self.run_id, len(todo.videos), todo.frames, skipped, len(plan.unreadable)),
            *(self.choice.name, self.choice.device),
        )
        start_s = committed_s = 0.0
        try:
            if todo.videos:
                with ray_session(self.settings.workers + self.models, self._queue_bytes()):
                    start_s = time.perf_counter() - clock
                    self._stream(todo, committer)
                    committed_s = time.perf_counter() - clock
        except BaseException:
            self._write_run(key, "failed", committer.totals, skipped, clock)
            raise
        named = {str(source) for source in self.sources}
        quarantined = [row for row in self.store.quarantine() if row["source"] in named]
        status = "partial" if quarantined else "done"
        self._write_run(key, status, committer.totals, skipped, clock, quarantined)
        totals = committer.totals
        log.info(
            "run %s %s: %d videos, %d frames, %.0f s",
            *(self.run_id, status, totals.videos, totals.frames, time.perf_counter() - clock),
        )
        return TrackReport(
            run_id=self.run_id,
            videos=totals.videos,
            skipped=skipped,
            models=self.models,
            runtime=self.choice.name,
            frames=totals.frames,
            detected=totals.detected,
            quarantined=quarantined,
            seconds={
                "wall": time.perf_counter() - clock,
                "start": start_s,
                "committed": committed_s,
                "ready": self._ready_s(totals),
                "decode": totals.decode_s,
                "model": totals.model_s,
                "commit": totals.commit_s,
            },
        )

    def _ready_s(self, totals: CommitTotals) -> float:
        began = totals.model_began - self.started.timestamp()
        return began if totals.frames else 0.0

    def _queue_bytes(self) -> int:
        """How many bytes of pictures may wait; what the run needs grows with nothing else."""
        chunk = self.settings.chunk_frames * self.spec.height * self.spec.width * 3
        return max(QUEUE_BYTES, QUEUED_CHUNKS * (self.settings.workers + self.models) * chunk)

    def _todo(self, plan: Plan) -> tuple[Plan, int]:
        """The videos that are not published yet, and how many are."""
        if self.settings.retry_quarantined:
            broken = {row["video_id"] for row in self.store.quarantine()}
            for video in plan.videos:
                if video.video_id in broken:
                    self.store.withdraw(video.video_id)
        todo = [v for v in plan.videos if not self.store.is_published(v.video_id)]
        return Plan(todo, plan.unreadable), len(plan.videos) - len(todo)

    def _stream(self, plan: Plan, committer: Committer) -> None:
        """Send shards through Ray in waves, and commit what comes back."""
        files = ray.put(ModelFiles(str(self.weights), self.weights.read_bytes(), self.quantized))
        for wave in _waves(plan, committer):
            for table in self._pipeline(wave, files):
                committer.add(table)
                totals = committer.totals
                self.on_progress(
                    TrackProgress(
                        "track", totals.frames, plan.frames, totals.videos, len(plan.videos)
                    )
                )

    def _pipeline(
        self, shards: list[dict[str, Any]], files: ray.ObjectRef[ModelFiles]
    ) -> Iterable[pa.Table]:
        from ray.data import ActorPoolStrategy, from_items

        _configure_ray_data(self._queue_bytes())
        threads = os.cpu_count() or 1
        workers = min(self.settings.workers, len(shards))
        frames = (
            from_items(shards, override_num_blocks=len(shards))
            .map_batches(
                DecodeStage,
                fn_constructor_args=(self.store.root, self.settings, self.spec, self.stride),
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
                num_cpus=1,
            )
            .map_batches(
                DetectStage,
                fn_constructor_args=(files, self.settings, self.choice, threads),
                batch_size=1,  # a message as it comes; with a GPU, Ray wants to be told a number
                batch_format="pyarrow",
                compute=ActorPoolStrategy(
                    size=self.models, max_tasks_in_flight_per_actor=MESSAGES_PER_MODEL
                ),
                num_cpus=1,
                num_gpus=1 / MODELS_PER_GPU if self.on_gpu else 0,
            )
        )
        return frames.iter_batches(batch_size=None, batch_format="pyarrow")

    def _metadata(self, key: ResultKey) -> dict[str, Any]:
        return {
            "weights": self.weights.stem,
            "weights_hash": self.info.hash,
            "arch": self.info.arch,
            "result_key": key.digest,
            "settings": dict(key.settings),
            "run_id": self.run_id,
            "versions": versions(),
        }

    def _write_run(
        self,
        key: ResultKey,
        status: str,
        totals: CommitTotals,
        skipped: int,
        clock: float | None,
        quarantined: list[dict[str, Any]] | None = None,
    ) -> None:
        settings = asdict(self.settings) | {"weights": str(self.weights)}
        self.store.write_run(
            {
                "run_id": self.run_id,
                "status": status,
                "started": self.started,
                "finished": None if clock is None else datetime.now(UTC),
                "result_key": key.digest,
                "weights": str(self.weights),
                "weights_hash": self.info.hash,
                "settings": json.dumps(settings),
                "versions": json.dumps(versions()),
                "videos": totals.videos,
                "videos_skipped": skipped,
                "videos_quarantined": len({row["source"] for row in quarantined or []}),
                "frames": totals.frames,
                "frames_detected": totals.detected,
                "wall_s": None if clock is None else time.perf_counter() - clock,
                "decode_s": totals.decode_s,
                "model_s": totals.model_s,
                "commit_s": totals.commit_s,
            }
        )


def _waves(plan: Plan, committer: Committer) -> Iterator[list[dict[str, Any]]]:
    """The shards to do, in lists of bounded length, in the order of the videos."""
    wave: list[dict[str, Any]] = []
    for video in plan.videos:
        for shard in committer.expect(video):
            wave.append({"video_id": video.video_id, "first": shard.start, "stop": shard.stop})
            if len(wave) == SHARDS_PER_WAVE:
                yield wave
                wave = []
    if wave:
        yield wave


def default_workers() -> int:
    """Decode workers for this machine: all cores but one, at least one."""
    return max(1, (os.cpu_count() or 1) - 1)


def versions() -> dict[str, str]:
    """Versions of the software that rows depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except ImportError:
            found[package] = "not installed"
    return found


def _configure_ray_data(queue_bytes: int) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = _BLOCK_BYTES
    context.execution_options.resource_limits = context.execution_options.resource_limits.copy(
        object_store_memory=queue_bytes
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
