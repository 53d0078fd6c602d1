"""The main job: an archive of videos goes in, one row per frame comes out.

    plan ──▶ shards ──▶ [Ray Data: DecodeStage ──▶ DetectStage] ──▶ Committer ──▶ tables

Ray Data streams shards through the two pools with back-pressure; the driver takes frame rows as
they come and commits them (`jobs.run`).  Whatever is killed, the same call again does only what is
missing.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import ray

from tracknet.jobs.choice import ModelChoice, choose_model
from tracknet.jobs.cluster import count_gpus, ray_session
from tracknet.jobs.commit import WorkError
from tracknet.jobs.run import Maker, OnProgress, Run, Shards, TrackProgress, TrackReport, Work
from tracknet.jobs.settings import TrackSettings
from tracknet.jobs.stages import DecodeStage, DetectStage, ModelFiles
from tracknet.pipeline.models.blocks import window_spec
from tracknet.pipeline.models.checkpoint import load_model
from tracknet.schemas.courts import CourtRow
from tracknet.schemas.folder import ResultKey
from tracknet.schemas.store import Store

__all__ = ["TrackProgress", "TrackReport", "default_workers", "track", "versions"]

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


def track(
    sources: list[Path],
    out: Path,
    settings: TrackSettings,
    fresh: bool = False,
    on_progress: OnProgress = lambda _: None,
    take_lock: bool = False,
    courts: list[CourtRow] | None = None,
) -> TrackReport:
    """Track all sources into the tables of `out`.

    Args:
        sources: from `jobs.sources.find_sources`.
        out: output folder; with a cluster it must be storage that all nodes share.
        settings: of the run.
        fresh: make all results again; the old ones stay until the new ones are complete.
        on_progress: called often, from this thread.
        take_lock: write although another machine's run seems to; see `schemas.lock`.
        courts: of the videos, from `jobs.courts.read_courts`; None takes those of the folder.

    Raises:
        MixedResults, ForeignFolder, NotWritable, Locked: see `schemas.errors`.
        InputError, WeightsError: settings or weights cannot be used.
        WorkError: workers fail again and again.
        StoppedEarly: at the deadline, or where too many sources have trouble.
    """
    chosen = choose_model(settings)
    spec = window_spec(load_model(chosen.weights))
    stride = settings.detector.stride_for(spec)
    on_gpu = chosen.runtime.device != "cpu"
    models = max(1, count_gpus()) * MODELS_PER_GPU if on_gpu else 1
    settings = replace(
        settings,
        workers=settings.workers or default_workers(),
        chunk_frames=settings.chunk_frames or (GPU_CHUNK if on_gpu else CHUNK),
    )
    network = chosen.quantized.hash if chosen.quantized else None
    key = ResultKey(chosen.info.hash, settings.deciding(stride, chosen.runtime, network))
    maker = Maker(
        key=key,
        spec=spec,
        stride=stride,
        weights=chosen.weights,
        arch=chosen.info.arch,
        runtime=chosen.runtime.name,
        models=models,
        versions=versions(),
    )
    pools = _Pools(settings, maker, chosen)
    store = Store(out.absolute())  # workers of Ray have working folders of their own
    with store.lock(take_lock):
        run = Run(*(sources, store, settings, maker, pools.open, fresh, on_progress), courts=courts)
        return run.execute()


@dataclass(frozen=True)
class _Pools:
    """The workers that decode and detect, on Ray."""

    settings: TrackSettings
    maker: Maker
    chosen: ModelChoice

    @contextmanager
    def open(self, store: Store) -> Iterator[Work]:
        """Start or join a Ray; gives what sends shards through it."""
        with ray_session(self.settings.workers + self.maker.models, self._queue_bytes()):
            weights, quantized = self.chosen.weights, self.chosen.quantized
            files = ray.put(ModelFiles(str(weights), weights.read_bytes(), quantized))
            yield lambda shards: self._stream(store, shards, files)

    def _queue_bytes(self) -> int:
        """How many bytes of pictures may wait; what the run needs grows with nothing else."""
        spec = self.maker.spec
        chunk = self.settings.chunk_frames * spec.height * spec.width * 3
        workers = self.settings.workers + self.maker.models
        return max(QUEUE_BYTES, QUEUED_CHUNKS * workers * chunk)

    def _stream(
        self, store: Store, shards: Shards, files: ray.ObjectRef[ModelFiles]
    ) -> Iterator[pa.Table]:
        """Rows as they come.

        Raises:
            WorkError: Ray ended, or no worker comes up.
        """
        try:
            yield from self._pipeline(store, shards, files)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise WorkError(
                f"Ray failed ({reason}); what is published stays, run the same command again to "
                "resume"
            ) from error

    def _pipeline(
        self, store: Store, shards: Shards, files: ray.ObjectRef[ModelFiles]
    ) -> Iterable[pa.Table]:
        from ray.data import ActorPoolStrategy, from_items

        _configure_ray_data(self._queue_bytes())
        threads = os.cpu_count() or 1
        workers = min(self.settings.workers, len(shards))
        maker, models = self.maker, self.maker.models
        frames = (
            from_items(shards, override_num_blocks=len(shards))
            .map_batches(
                DecodeStage,
                fn_constructor_args=(store.root, self.settings, maker.spec, maker.stride),
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
                num_cpus=1,
            )
            .map_batches(
                DetectStage,
                fn_constructor_args=(
                    *(store.root, files, self.settings, self.chosen.runtime, threads),
                ),
                batch_size=1,  # a message as it comes; with a GPU, Ray wants to be told a number
                batch_format="pyarrow",
                compute=ActorPoolStrategy(
                    size=models, max_tasks_in_flight_per_actor=MESSAGES_PER_MODEL
                ),
                num_cpus=1,
                num_gpus=1 / MODELS_PER_GPU if self.chosen.runtime.device != "cpu" else 0,
            )
        )
        return frames.iter_batches(batch_size=None, batch_format="pyarrow")


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
