"""Progress on a terminal, tables, summaries.

Results go to standard output, progress to standard error; `as_json` gives a machine one JSON
document instead.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from tracknet.jobs.show import inventory
from tracknet.schemas.store import Store

if TYPE_CHECKING:  # `tracknet inspect` must not wait for PyTorch and Ray
    from tracknet.jobs.benchmark.run import BenchmarkReport, Together
    from tracknet.jobs.plan import Plan, PlannedVideo
    from tracknet.jobs.status import RunStatus
    from tracknet.jobs.track import TrackReport
    from tracknet.pipeline.models.complexity import ModelCard
    from tracknet.pipeline.runtimes.parity import GateResult
    from tracknet.pipeline.training import TrainResult

LOG_EVERY_S = 30.0
log = logging.getLogger(__name__)
_FILE_WIDTH = 120  # columns of a table that goes into a file or a pipe


@contextmanager
def progress(label: str) -> Iterator[Callable[..., None]]:
    """A progress bar with rate and time left on a terminal, and a log line every 30 seconds."""
    terminal = console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=terminal,
        disable=not terminal.is_terminal,
    )
    logged = time.monotonic()
    with bar:
        bar.add_task(label, total=1, unit="", rate="", note="")
        (task,) = bar.tasks

        def report(done: int, total: int, unit: str, stage: str = label, note: str = "") -> None:
            nonlocal logged
            if task.description != stage:
                bar.reset(task.id, total=total, description=stage)
            bar.update(task.id, completed=done, total=total, unit=unit, note=note)
            rate = f"{task.speed:.1f} {unit}/s" if task.speed else ""
            task.fields["rate"] = rate
            if time.monotonic() - logged >= LOG_EVERY_S:
                logged = time.monotonic()
                seconds = task.time_remaining
                left = "" if seconds is None else f"{timedelta(seconds=seconds)} left"
                parts = (f"{done} of {total} {unit}", rate, note, left)
                log.info("%s: %s", stage, ", ".join(part for part in parts if part))

        yield report


def console(stderr: bool = False) -> Console:
    """Rich's console; outside a terminal tables are wider."""
    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal:
        made.width = max(made.width, _FILE_WIDTH)
    return made


def print_table(
    columns: tuple[str, ...], rows: list[tuple[Any, ...]], right: tuple[int, ...] = ()
) -> None:
    table = Table(box=SIMPLE, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(
            column, justify="right" if i in right else "left", overflow="fold",
            no_wrap=i in right,
        )  # fmt: skip
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console().print(table)


def print_models(cards: Sequence[ModelCard], as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(card) for card in cards], indent=1))
        return
    rows = [
        (
            card.arch + (f" ({card.variant})" if card.variant else ""),
            f"{card.parameters / 1e6:.2f}",
            f"{card.macs_per_window / 1e9:.2f}",
            f"{card.macs_per_frame / 1e9:.2f}",
            card.input,
            card.output,
            card.source,
        )
        for card in cards
    ]
    columns = ("model", "params M", "GMAC/window", "GMAC/frame", "input", "output", "source")
    print_table(columns, rows, right=(1, 2, 3))


def print_plan(plan: Plan, as_json: bool) -> None:
    if as_json:
        videos = [
            {
                "source": video.source,
                "video_id": video.video_id,
                "frames": video.frames,
                "duration_s": video.duration_s,
                "shards": [[shard.start, shard.stop] for shard in video.shards],
                "damage": video.damage,
                "copies": video.copies,
            }
            for video in plan.videos
        ]
        unreadable = [{"source": bad.source, "error": bad.error} for bad in plan.unreadable]
        print(json.dumps({"videos": videos, "unreadable": unreadable}, indent=1))
        return
    rows = [
        (
            video.source,
            video.frames,
            "" if video.duration_s is None else f"{video.duration_s:.1f}",
            len(video.shards),
            _note(video),
        )
        for video in plan.videos
    ]
    print_table(("video", "frames", "seconds", "shards", "note"), rows, right=(1, 2, 3))
    print(f"{len(plan.videos)} videos, {plan.frames} frames, {plan.shards} shards")
    for bad in plan.unreadable:
        print(f"unreadable: {bad.source}: {bad.error}")


def _note(video: PlannedVideo) -> str:
    copies = f"{len(video.copies)} more with the same content" if video.copies else ""
    return "; ".join(filter(None, [video.damage or "", copies]))


def print_report(report: TrackReport, out: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"out": str(out), **asdict(report)}, indent=1))
        return
    rate = f"{report.detected / report.frames:.1%}" if report.frames else "-"
    seconds = report.seconds
    print(
        f"{report.videos} videos tracked, {report.skipped} complete before; {report.frames} frames,"
        f" ball in {rate}; {report.runtime}, {seconds['wall']:.1f} s"
        f" (start {seconds['start']:.1f}, decode {seconds['decode']:.1f},"
        f" model {seconds['model']:.1f}, commit {seconds['commit']:.2f})"
    )
    print_quarantine(report.quarantined)
    for failed in report.failed:
        print(f"failed (machine): {failed['source']}: {failed['error']}")


def print_training(result: TrainResult, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(result), indent=1, default=str))
        return
    best = "never defined" if result.best_f1 is None else f"{result.best_f1:.4f}"
    print(f"{result.steps} steps in {result.seconds / 60:.1f} min; best F1 on validation {best}")
    for name in ("best", "final", "record"):
        print(f"{name:9} {getattr(result, name)}")


def print_quarantine(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        where = ""
        if row.get("shard_first") is not None:
            where = f" frames {row['shard_first']}-{row['shard_stop'] - 1}:"
        print(f"unreadable or partly unreadable: {row['source']}:{where} {row['error']}")


def print_inventory(store: Store, show_all: bool, as_json: bool, deep: bool = False) -> bool:
    """Print what is in a folder; returns whether all files there are sound."""
    found = inventory(store, deep)
    if as_json:
        print(json.dumps(found, indent=1))
        return not found["damaged"]

    def percent(share: float | None) -> str:
        return "-" if share is None else f"{share:.1%}"

    videos = found["videos"] if show_all else found["videos"][:40]
    print_table(
        ("video", "frames", "coverage", "ball seen", ""),
        [
            (
                video["source"],
                video["frames"],
                percent(video["coverage"]),
                percent(video["detection_rate"]),
                "" if video["whole"] else "partly unreadable",
            )
            for video in videos
        ],
        right=(1, 2, 3),
    )
    if len(videos) < len(found["videos"]):
        print(f"... and {len(found['videos']) - len(videos)} more (--all)")
    print(_totals(found["totals"]))
    print_quarantine(found["quarantine"])
    for bad in found["damaged"]:
        name = bad["source"] or bad["video_id"]
        print(f"damaged: {name}: {bad['error']}; track it again")
    return not found["damaged"]


def _totals(totals: dict[str, int]) -> str:
    return (
        f"{totals['videos']} videos, {totals['frames']} frames, "
        f"{totals['detected']} with a ball, {totals['runs']} runs"
    )


def print_status(status: RunStatus, as_json: bool) -> None:
    """Print how far a run is; the last line is that of `inspect`."""
    if as_json:
        print(json.dumps(asdict(status)))
        return
    holder = status.holder
    where = f", process {holder['process']} on {holder['host']}" if holder else ""
    if status.run_id is None:
        print("no run yet")
    else:
        print(f"run {status.run_id}: {status.state}, began {status.started}{where}")
    frames = status.frames + status.frames_left
    rate = "" if status.rate is None else f", {status.rate:.1f} frames/s"
    left = "" if status.left_s is None else f", {timedelta(seconds=round(status.left_s))} left"
    share = status.frames / frames if frames else 1.0
    print(
        f"{status.videos} of {status.videos + status.videos_left} videos, "
        f"{status.frames} of {frames} frames ({share:.1%}){rate}{left}"
    )
    for node, did in status.nodes.items() if len(status.nodes) > 1 else ():
        print(f"{node}: {did['decoded']} frames decoded, {did['modelled']} through the model")
    if status.trouble:
        print(f"{len({row['source'] for row in status.trouble})} sources with trouble (`inspect`)")
    print(_totals(status.totals))


def print_gate_results(results: dict[str, GateResult], as_json: bool) -> None:
    if as_json:
        print(json.dumps([v.record(name) for name, v in results.items()], indent=1))
        return

    def percent(share: float | None) -> str:
        return "-" if share is None else f"{share:.2%}"

    print_table(
        ("runtime", "frames", "F1 of PyTorch", "F1", "points", "same outcome", ""),
        [
            (
                name,
                result.reference.total,
                percent(result.reference.f1),
                percent(result.found.f1),
                f"{100 * result.f1_difference:+.2f}",
                percent(result.same),
                "passed" if result.passed else "FAILED",
            )
            for name, result in results.items()
        ],
        right=(1, 2, 3, 4, 5),
    )


def print_benchmark(report: BenchmarkReport, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(report)))
        return
    machine, model = report.machine, report.model
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['device']}")
    print(f"{model['arch']} {model['config']}, weights {model['weights']}\n")
    print_table(
        ("stage alone", "frames/s", "lowest", "highest", "per core"),
        [
            (name, *map(_rate, (t.rate, t.lowest, t.highest)), _rate(t.rate_per_core))
            for name, t in report.stages.items()
        ],
        right=(1, 2, 3, 4),
    )
    runs = {f"run {i}": run for i, run in enumerate(report.together, start=1)}
    _print_together("file to table", runs)
    if report.scaling:
        _print_together("archive", report.scaling)
    print_table(("ratio", ""), [(n, f"{x:.3g}") for n, x in report.ratios.items()], right=(1,))
    print(f"matrix product: {report.matrix_rate / 1e9:.1f} GMAC/s")


def _print_together(title: str, runs: dict[str, Together]) -> None:
    """Rates and shares are of the time behind the start; stages run beside each other.

    The last columns are Ray's own processes and the one that commits: their share of all CPU time,
    and of that behind the start.
    """

    def share(run: Together, seconds: float) -> str:
        return f"{seconds / (run.wall_s - run.start_s):.1%}"

    print_table(
        (
            *(title, "s", "start s", "frames/s", "decode", "model", "commit", "waited"),
            *("Ray's CPU", "after start-up"),
        ),
        [
            (
                name,
                f"{run.wall_s:.1f}",
                f"{run.start_s:.1f}",
                _rate(run.rate),
                *(share(run, run.seconds[stage]) for stage in ("decode", "model", "commit")),
                share(run, run.waited_s),
                f"{run.overhead:.1%}",
                f"{run.overhead_at_work:.1%}",
            )
            for name, run in runs.items()
        ],
        right=tuple(range(1, 10)),
    )


def _rate(frames_per_second: float | None) -> str:
    if frames_per_second is None:
        return ""
    return f"{frames_per_second:.2f}" if frames_per_second < 100 else f"{frames_per_second:.0f}"
