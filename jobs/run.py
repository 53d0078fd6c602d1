"""A run's bookkeeping: what is to do, what was done, what is told; nothing of Ray's work or models.

    lock ─▶ claim ─▶ plan ─▶ bind ─▶ [work: shards in, frame rows out] ─▶ commit ─▶ report

What the last lines and the exit code say follows from what is published for the sources of this
run, whoever published it, and from nothing else.

With `fresh` all is done in a folder beside (`schemas.folder`), and swapped in at the end, unless
the machine failed a video.  Until then the old results are there.  The same command again goes on
with what was begun; a run without `fresh` gives it up.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

from tracknet.jobs.commit import Committer, WorkError
from tracknet.jobs.meters import RunMeter
from tracknet.jobs.plan import (
    MACHINE_TRIES,
    Plan,
    bind,
    make_plan,
    problems_of_plan,
)
from tracknet.jobs.settings import TrackSettings
from tracknet.pipeline.decoding.decoder import Decoder, DecoderLimits
from tracknet.pipeline.errors import StoppedEarly
from tracknet.pipeline.spec import WindowSpec
from tracknet.schemas.courts import CourtRow
from tracknet.schemas.errors import StoreError
from tracknet.schemas.folder import ResultKey
from tracknet.schemas.store import Store, problems_of

log = logging.getLogger(__name__)
SUMS_EVERY_S = 15.0  # a run writes its sums, which `tracknet status` reads
SHARDS_PER_WAVE = 2048  # bounds what the driver and Ray keep of an archive of any size


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
        quarantined: what is wrong with the sources of this run, whichever run found it; rows of
            `schemas.tables.QUARANTINE`.
        failed: `source` and `error` of videos that the machine failed: a disk that is gone, no
            room, a process that died.  They are not published; the next run tries them again.
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
    failed: list[dict[str, str]]
    seconds: dict[str, float]


OnProgress = Callable[[TrackProgress], None]
Shards = list[dict[str, Any]]
Work = Callable[[Shards], Iterable[pa.Table]]
"""Rows `video_id`, `first`, `stop` in, tables of `jobs.stages.FRAME_ROW` out."""


@dataclass(frozen=True)
class Maker:
    """What makes the rows of a run, as far as tables name it.

    Attributes:
        key: what decides them.
        spec, stride: how windows are laid.
        weights: file.
        arch: of the model.
        runtime: what computes it.
        models: that work side by side.
        versions: of the software.
    """

    key: ResultKey
    spec: WindowSpec
    stride: int
    weights: Path
    arch: str
    runtime: str
    models: int
    versions: Mapping[str, str]


class Run:
    """One run: the steps in order, and what they share.

    Args:
        sources: from `jobs.sources.find_sources`.
        out: the results folder, locked by the caller.
        settings: of the run, nothing left to choose.
        maker: what makes the rows.
        work: opens what detects balls in shards, given the folder where probed videos are.
        fresh: make all results again, and replace the old ones by them.
        on_progress: called often, from this thread.
        decoder: what probes.
        courts: replace those of the folder; None leaves them.
    """

    def __init__(
        self,
        sources: list[Path],
        out: Store,
        settings: TrackSettings,
        maker: Maker,
        work: Callable[[Store], AbstractContextManager[Work]],
        fresh: bool = False,
        on_progress: OnProgress = lambda _: None,
        decoder: Callable[[DecoderLimits], Decoder] = Decoder,
        courts: list[CourtRow] | None = None,
    ) -> None:
        self.sources = sources
        self.out = out
        self.store = out.next() if fresh else out
        self.settings = settings
        self.maker = maker
        self.work = work
        self.fresh = fresh
        self.on_progress = on_progress
        self.decoder = decoder
        self.courts = courts
        self.started = datetime.now(UTC)
        self.run_id = f"{self.started:%Y%m%dT%H%M%S}-{uuid4().hex[:6]}"
        self.clock = time.perf_counter()
        self.skipped = 0
        self.stops_at = settings.stops_at(datetime.now())
        self.sums_written = time.monotonic()

    def execute(self) -> TrackReport:
        """Do what is missing.

        Raises:
            MixedResults, ForeignFolder, NotWritable, Locked: see `schemas.errors`.
            WorkError: workers fail again and again.
            StoppedEarly: a limit of the user's was reached.
        """
        self._prepare()
        plan = make_plan(
            self.sources,
            self.maker.spec,
            self.maker.stride,
            self.settings.shard_seconds,
            self.settings.decoder,
            self.store,
            lambda done: self.on_progress(TrackProgress("probe", done, len(self.sources))),
            self.decoder,
        )
        bind(plan, self.store)
        self.on_progress(TrackProgress("start", 0, plan.frames, 0, len(plan.videos)))
        committer = Committer(
            self.store, self.maker.key, self.settings.detector, self.run_id, self._metadata()
        )
        todo = self._todo(plan)
        self.skipped = len(plan.videos) - len(todo.videos)
        report = self._report(committer, plan)
        self._write_run("running", report, None)
        log.info(
            "run %s: %d videos, %d frames to do; %d complete before, %d unreadable; %s",
            *(self.run_id, len(todo.videos), todo.frames, self.skipped, len(plan.unreadable)),
            self.maker.runtime,
        )
        start_s = committed_s = 0.0
        try:
            if todo.videos:
                self._check_limits(plan, committer)
                with self.work(self.store) as work:
                    start_s = self._seconds()
                    self._commit(todo, committer, work)
                    committed_s = self._seconds()
            from tracknet.jobs.game import fill  # PyTorch, which nothing before it needs

            fill(self.store)  # where they are damaged, or an older version published the video
        except BaseException as error:
            ended = isinstance(error, Exception) and not isinstance(error, StoppedEarly)
            status = "failed" if ended else "interrupted"
            with contextlib.suppress(StoreError):  # there may be no room for that either
                self._write_run(status, self._report(committer, plan), self._seconds())
            raise
        report = self._report(committer, plan)
        report.seconds.update(start=start_s, committed=committed_s)
        status = "failed" if report.failed else "partial" if report.quarantined else "done"
        self._write_run(status, report, self._seconds())
        if self.fresh and report.failed:
            log.warning("%s: keeping the old results until all videos are tracked", self.out.root)
        elif self.fresh:
            self.out.swap()
        log.info(
            "run %s %s: %d videos, %d frames, %.0f s",
            *(self.run_id, status, report.videos, report.frames, self._seconds()),
        )
        return replace(report, seconds={**report.seconds, "wall": self._seconds()})

    def _seconds(self) -> float:
        return time.perf_counter() - self.clock

    def _prepare(self) -> None:
        """Make the folder ours, and clear up after runs that were killed."""
        self.out.finish_swap()
        self.out.sweep()
        self.store.sweep()
        if self.fresh:
            self.out.check_ours()
            begun = self.store.marker
            if begun is not None and not self.maker.key.matches(begun):
                self.out.drop_next()
            self.store.claim(self.maker.key)
        else:
            self.store.claim(self.maker.key)
            self.out.drop_next()
        courts = self.out.courts() if self.courts is None else self.courts
        if courts != self.store.courts():
            self.store.write_courts(courts)
        self.store.settle_runs()

    def _todo(self, plan: Plan) -> Plan:
        """The videos that are not published yet, or to be tried again."""
        todo = []
        for video in plan.videos:
            fault = self.store.fault(video.video_id, deep=True)
            manifest = self.store.manifest(video.video_id)
            if fault is not None:
                if self.store.trajectory_path(video.video_id).exists() or manifest is not None:
                    log.warning("%s: %s; it is tracked again", video.source, fault)
                todo.append(video)
            elif self.settings.retry_quarantined and manifest and manifest["problems"]:
                self.store.unstage(video.video_id)
                todo.append(video)
        return Plan(todo, plan.unreadable)

    def _commit(self, plan: Plan, committer: Committer, work: Work) -> None:
        """Send shards to work in waves, and commit what comes back; try again what did not."""
        self.meter = RunMeter(plan.frames, len(plan.videos), len(plan.unreadable))
        for wave in _waves(plan, committer):
            self._round(wave, plan, committer, work)
        for attempt in range(2, MACHINE_TRIES + 1):
            shards = committer.unfinished()
            if shards:
                log.warning("%d shards failed; attempt %d", len(shards), attempt)
            for start in range(0, len(shards), SHARDS_PER_WAVE):
                self._round(shards[start : start + SHARDS_PER_WAVE], plan, committer, work)

    def _round(self, shards: Shards, plan: Plan, committer: Committer, work: Work) -> None:
        totals, n_videos = committer.totals, len(plan.videos)
        try:
            for table in work(shards):
                committer.add(table)
                self.meter.show(committer.totals)
                self._write_sums(plan, committer)
                if totals.videos < n_videos:
                    self._check_limits(plan, committer)
                self.on_progress(
                    TrackProgress("track", totals.frames, plan.frames, totals.videos, n_videos)
                )
        except WorkError as error:
            at = "; ".join(f"{bad['source']}: {bad['error']}" for bad in committer.failures()[:3])
            raise WorkError(f"{error}; while processing {at}") from error

    def _write_sums(self, plan: Plan, committer: Committer) -> None:
        """Write the run's row again from time to time, for `tracknet status`."""
        if time.monotonic() - self.sums_written > SUMS_EVERY_S:
            self.sums_written = time.monotonic()
            self._write_run("running", self._report(committer, plan), None)

    def _check_limits(self, plan: Plan, committer: Committer) -> None:
        """End the run where a limit of the user's is reached.

        Raises:
            StoppedEarly: it is.
        """
        left = "what is published stays; run the same command again"
        if self.stops_at is not None and datetime.now(self.stops_at.tzinfo) >= self.stops_at:
            raise StoppedEarly(
                f"stopped at the deadline, {self.settings.deadline}; {left} to go on"
            )
        trouble = len(plan.unreadable) + committer.totals.troubled
        allowed = self.settings.failures_of(len(self.sources))
        if trouble > allowed:
            raise StoppedEarly(
                f"{trouble} sources have trouble, more than --max-failures "
                f"{self.settings.max_failures}; {left} with a higher limit to go on"
            )

    def _report(self, committer: Committer, plan: Plan) -> TrackReport:
        totals = committer.totals
        ready = totals.model_began - self.started.timestamp() if totals.frames else 0.0
        unreachable = [bad for bad in plan.unreadable if bad.machine]
        return TrackReport(
            run_id=self.run_id,
            videos=totals.videos,
            skipped=self.skipped,
            models=self.maker.models,
            runtime=self.maker.runtime,
            frames=totals.frames,
            detected=totals.detected,
            quarantined=self._problems(plan),
            failed=[
                *({"source": bad.source, "error": bad.error} for bad in unreachable),
                *committer.failures(),
            ],
            seconds={
                "wall": self._seconds(),
                "start": 0.0,
                "committed": 0.0,
                "ready": ready,
                "decode": totals.decode_s,
                "model": totals.model_s,
                "commit": totals.commit_s,
            },
        )

    def _problems(self, plan: Plan) -> list[dict[str, Any]]:
        """What is wrong with the sources of this run: what is published of them says it."""
        rows = problems_of_plan(plan)
        for video in plan.videos:
            manifest = self.store.manifest(video.video_id)
            if manifest is not None:
                rows += [r for r in problems_of(manifest) if r["source"] in video.sources]
        return sorted(rows, key=lambda row: (row["source"], row["shard_first"] or 0))

    def _metadata(self) -> dict[str, Any]:
        maker = self.maker
        return {
            "weights": maker.weights.stem,
            "weights_hash": maker.key.weights_hash,
            "arch": maker.arch,
            "result_key": maker.key.digest,
            "settings": dict(maker.key.settings),
            "run_id": self.run_id,
            "versions": dict(maker.versions),
        }

    def _write_run(self, status: str, report: TrackReport, wall_s: float | None) -> None:
        settings = asdict(self.settings) | {"weights": str(self.maker.weights)}
        self.store.write_run(
            {
                "run_id": self.run_id,
                "status": status,
                "started": self.started,
                "finished": None if wall_s is None else datetime.now(UTC),
                "result_key": self.maker.key.digest,
                "weights": str(self.maker.weights),
                "weights_hash": self.maker.key.weights_hash,
                "settings": json.dumps(settings),
                "versions": json.dumps(dict(self.maker.versions)),
                "videos": report.videos,
                "videos_skipped": report.skipped,
                "videos_quarantined": len({row["source"] for row in report.quarantined}),
                "frames": report.frames,
                "frames_detected": report.detected,
                "wall_s": wall_s,
                **{f"{name}_s": report.seconds[name] for name in ("decode", "model", "commit")},
            }
        )


def _waves(plan: Plan, committer: Committer) -> Iterator[Shards]:
    """The shards to do, in lists of bounded length, in the order of the videos."""
    wave: Shards = []
    for video in plan.videos:
        for shard in committer.expect(video):
            wave.append({"video_id": video.video_id, "first": shard.start, "stop": shard.stop})
            if len(wave) == SHARDS_PER_WAVE:
                yield wave
                wave = []
    if wave:
        yield wave
