"""How fast it is: benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracknet.commands.options import as_json, precisions_option, runtime_option

if TYPE_CHECKING:
    from tracknet.pipeline.decoding.decoder import Backend


@click.command()
@click.option("--weights", default="", help="Name of shipped weights, or a .safetensors file; "
              "default: random weights of --arch, without uncertain windows.")  # fmt: skip
@click.option("--arch", default="v5", show_default=True, help="See `tracknet models`.")
@click.option(
    "--width",
    default=1.0,
    show_default=True,
    help="Channel width of --arch, relative to published.",
)
@runtime_option
@precisions_option
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--batch", type=click.IntRange(min=0), default=0, help="Windows at once; 0: auto.")
@click.option("--decoder", type=click.Choice(["decord", "pyav"]), default="decord",
              show_default=True)  # fmt: skip
@click.option("--workers", type=click.IntRange(min=0), default=0, help="As in `track`.")
@click.option("--video", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Measure on this instead of a synthetic 720p rally.")  # fmt: skip
@click.option("--frames", default=300, show_default=True, type=click.IntRange(min=9),
              help="Length of the synthetic rally.")  # fmt: skip
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--scaling", is_flag=True,
              help="Also archives of many clips and long videos; takes hours.")  # fmt: skip
@click.option("--clips", default="1,10,100", show_default=True, help="Sizes for --scaling.")
@click.option("--minutes", default="1,10,40", show_default=True, help="Lengths for --scaling.")
@as_json
def benchmark(
    scaling: bool,
    clips: str,
    minutes: str,
    decoder: Backend,
    precisions: tuple[str, ...],
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure every stage, the whole, the reference loop and the limits, side by side.

    Models alone are timed in each --precision, the whole in the first.  Nothing else should run on
    the machine meanwhile.

    \b
    tracknet benchmark --runtime openvino --precision int8 --precision fp32
    tracknet benchmark --width 0.25 --frames 900 --json
    tracknet benchmark --weights v5-nano --scaling --clips 1,10 --minutes 1,10
    """
    from tracknet.commands.console import print_benchmark
    from tracknet.jobs.benchmark.run import BenchmarkSettings
    from tracknet.jobs.benchmark.run import benchmark as run

    if scaling:
        settings |= {"clips": _numbers(clips, int), "minutes": _numbers(minutes, float)}
    print_benchmark(
        run(
            BenchmarkSettings(backend=decoder, precisions=precisions or ("auto",), **settings),
            _tell,
        ),
        as_json,
    )


def _tell(name: str, rate: float | None = None) -> None:
    click.echo(f"measuring: {name}" if rate is None else f"  {name}: {rate:.2f} frames/s", err=True)


def _numbers(text: str, kind: type) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(",") if part)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no list of numbers") from error
