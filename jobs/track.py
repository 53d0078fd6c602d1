"""The main job: an archive of videos goes in, one row per frame comes out.

    plan ──▶ shards ──▶ [Ray Data: DecodeStage ──▶ DetectStage] ──▶ Committer ──▶ tables

Ray Data streams shards through the two pools with back-pressure; the driver takes frame rows as
they come and commits them (`jobs.run`).  Whatever is killed, the same call again does only what is
missing.
"""

from __future__ import annotations

import logging
import platform
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import ray

from tracknet.jobs.choice import ModelChoice, choose_model
from tracknet.jobs.cluster import cluster_nodes, own_node, ray_session
from tracknet.jobs.commit import WorkError
from tracknet.jobs.notes import notes_folder
from tracknet.jobs.run import Maker, OnProgress, Run, Shards, TrackProgress, TrackReport, Work
from tracknet.jobs.settings import TrackSettings
from tracknet.jobs.stages import DecodeStage, DetectStage, ModelFiles
from tracknet.jobs.workers import Workers, share_out
from tracknet.schemas.courts import CourtRow
from tracknet.schemas.folder import ResultKey
from tracknet.schemas.store import Store

__all__ = ["TrackProgress", "TrackReport", "track", "versions"]

QUEUE_BYTES = 256 << 20  # pictures that may wait between the stages; more for more workers
QUEUED_CHUNKS = 6  # for each worker and model, at least, so that none waits for room
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
    spec = chosen.prepared.spec
    stride = settings.detector.stride_for(spec)
    on_gpu = chosen.runtime.device != "cpu"
    nodes = cluster_nodes()
    workers = share_out(nodes or [own_node()], on_gpu, not nodes, settings.workers)
    settings = replace(
        settings,
        workers=workers.decode,
        chunk_frames=settings.chunk_frames or (GPU_CHUNK if on_gpu else CHUNK),
    )
    network = chosen.quantized.hash if chosen.quantized else None
    key = ResultKey(chosen.prepared.hash, settings.deciding(stride, chosen.runtime, network))
    maker = Maker(
        key=key,
        spec=spec,
        stride=stride,
        weights=chosen.weights,
        arch=chosen.prepared.arch,
        runtime=chosen.runtime.name,
        models=workers.models,
        versions=versions(),
    )
    pools = _Pools(settings, maker, chosen, workers)
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
    workers: Workers

    @contextmanager
    def open(self, store: Store) -> Iterator[Work]:
        """Start or join a Ray; gives what sends shards through it."""
        # Importing it takes a second or two, as long as Ray's processes need to come up.
        threading.Thread(target=import_module, args=("ray.data",)).start()
        with ray_session(self.workers.decode + self.workers.models, self._queue_bytes()):
            files = ray.put(ModelFiles(self.chosen.prepared, self.chosen.quantized))
            notes = notes_folder(store.root)
            try:
                yield lambda shards: self._stream(store.root, notes, shards, files)
            finally:
                shutil.rmtree(notes, ignore_errors=True)

    def _queue_bytes(self) -> int:
        """How many bytes of pictures may wait; what the run needs grows with nothing else."""
        spec = self.maker.spec
        chunk = self.settings.chunk_frames * spec.height * spec.width * 3
        workers = self.workers.decode + self.workers.models
        return max(QUEUE_BYTES, QUEUED_CHUNKS * workers * chunk)

    def _stream(
        self, out: Path, notes: Path, shards: Shards, files: ray.ObjectRef[ModelFiles]
    ) -> Iterator[pa.Table]:
        """Rows as they come.

        Raises:
            WorkError: Ray ended, or no worker comes up.
        """
        try:
            yield from self._pipeline(out, notes, shards, files)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise WorkError(
                f"Ray failed ({reason}); what is published stays, run the same command again to "
                "resume"
            ) from error

    def _pipeline(
        self, out: Path, notes: Path, shards: Shards, files: ray.ObjectRef[ModelFiles]
    ) -> Iterable[pa.Table]:
        from ray.data import ActorPoolStrategy, from_items

        _configure_ray_data(self._queue_bytes())
        workers, maker = self.workers, self.maker
        decode = min(workers.decode, len(shards))
        frames = (
            from_items(shards, override_num_blocks=len(shards))
            .map_batches(
                DecodeStage,
                fn_constructor_args=(out, notes, self.settings, maker.spec, maker.stride),
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(
                    min_size=1, max_size=workers.most_decode and decode, initial_size=decode
                ),
                num_cpus=1,
            )
            .map_batches(
                DetectStage,
                fn_constructor_args=(
                    *(notes, files, self.settings, self.chosen.runtime, workers.threads),
                ),
                batch_size=1,  # a message as it comes; with a GPU, Ray wants to be told a number
                batch_format="pyarrow",
                compute=ActorPoolStrategy(
                    min_size=1,
                    max_size=workers.most_models,
                    initial_size=workers.models,
                    max_tasks_in_flight_per_actor=MESSAGES_PER_MODEL,
                ),
                num_cpus=workers.model_cpus,
                num_gpus=workers.model_gpus,
            )
        )
        return frames.iter_batches(batch_size=None, batch_format="pyarrow")


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
