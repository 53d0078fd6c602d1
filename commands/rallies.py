"""Synthetic rallies: synth, demo."""

from __future__ import annotations

from pathlib import Path

import click

from tracknet.commands.archive import track_here
from tracknet.commands.options import DEFAULT_WEIGHTS, precision_option, runtime_option


@click.command()
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder to write the clips and labels to.")  # fmt: skip
@click.option("--clips", default=10, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--sport", default="mixed", show_default=True,
              type=click.Choice(["mixed", "tennis", "badminton", "padel"]))  # fmt: skip
def synth(out: Path, clips: int, seed: int, sport: str) -> None:
    """Make rallies with exact labels, in the TrackNetV2 layout (video/, csv/).

    \b
    tracknet synth --out rallies/ --clips 20 --seed 7
    """
    from tracknet.commands.console import progress
    from tracknet.pipeline.synth import SynthConfig, write_dataset

    with progress("drawing rallies") as report:
        paths = write_dataset(
            out, clips, seed, SynthConfig(sport=sport), lambda d, n: report(d, n, "clips")
        )
    click.echo("\n".join(str(path) for path in paths))


@click.command()
@click.option("--out", default=Path("demo"), show_default=True,
              type=click.Path(file_okay=False, path_type=Path))  # fmt: skip
@click.option("--weights", default=DEFAULT_WEIGHTS, show_default=True)
@click.option("--seed", default=2026, show_default=True, type=click.IntRange(min=0))
@runtime_option
@precision_option
def demo(out: Path, weights: str, seed: int, runtime: str, precision: str) -> None:
    """Make a rally, track it on an embedded Ray, and show it: tables, picture, video, report.

    \b
    tracknet demo --out demo/
    """
    import tracknet
    from tracknet.commands.console import print_inventory, print_report, progress
    from tracknet.jobs.report import write_report
    from tracknet.jobs.settings import TrackSettings
    from tracknet.pipeline.scoring.metrics import FIGURES
    from tracknet.pipeline.synth import SynthConfig, write_dataset
    from tracknet.schemas.store import Store

    with progress("drawing a rally") as report:
        (rally,) = write_dataset(
            out / "rallies", 1, seed, SynthConfig(sport="tennis", frames=(150, 150)),
            lambda d, n: report(d, n, "clips"),
        )  # fmt: skip
    tables = out / "tables"
    settings = TrackSettings(weights=weights, runtime=runtime, precision=precision)
    result = track_here((str(rally),), tables, settings, fresh=True)
    print_report(result, tables, as_json=False)
    print_inventory(Store(tables), show_all=True, as_json=False)
    (score,) = tracknet.evaluate(tables, out / "rallies").rows("all")
    figures = ", ".join(f"{name} {score[name]:.3f}" for name in FIGURES if score[name] is not None)
    click.echo(f"against the rally's labels, 4 px at 512x288: {figures}")
    click.echo(f"tables    {tables}/trajectories/*.parquet")
    click.echo(f"video     {tracknet.render(rally, tables, out / 'rally.mp4')}")
    click.echo(f"picture   {tracknet.render(rally, tables, out / 'rally.png')}")
    click.echo(f"report    {write_report(Store(tables), out / 'report.html')}")
