"""Models and weights: models, weights convert, show, quantize, check."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from tracknet.commands.options import (
    RUNTIMES,
    as_json,
    options,
)


@click.command()
@as_json
def models(as_json: bool) -> None:
    """List every model: parameters, multiply-accumulates, input, output, source.

    \b
    tracknet models
    tracknet models --json
    """
    from tracknet.commands.console import print_models
    from tracknet.pipeline.models.complexity import model_cards

    print_models(model_cards(), as_json)


@click.group()
def weights() -> None:
    """Convert, quantize, check and describe weights files."""


@weights.command()
@click.argument("src", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--arch", required=True, help="v2, v4, v5, v2_rstr, v3 or inpaintnet.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="The .safetensors file to write.")  # fmt: skip
def convert(src: Path, arch: str, out: Path) -> None:
    """Turn a released checkpoint (.pt, .pth) into a weights file, without executing its code.

    \b
    tracknet weights convert TrackNetV5.pth --arch v5 --out v5.safetensors
    """
    from tracknet.pipeline.models.convert import convert as convert_weights

    info = convert_weights(src, arch, out)
    click.echo(f"{out}: {info.arch}, {info.parameters / 1e6:.2f} M parameters, {info.hash[:16]}")


@weights.command()
@click.argument("file", metavar="NAME_OR_FILE")
def show(file: str) -> None:
    """Show what a weights file says of itself: config, hash, training record, metrics.

    \b
    tracknet weights show v5-nano
    """
    from dataclasses import asdict

    from tracknet.pipeline.models.checkpoint import describe

    click.echo(json.dumps(asdict(describe(file)), indent=1))


clips_option = options(
    click.option("--data", "root", required=True,
                 type=click.Path(exists=True, file_okay=False, path_type=Path),
                 help="Folder of labelled clips, as in `clips`."),
    click.option("--cache", type=click.Path(file_okay=False, path_type=Path),
                 help="Folder of decoded clips.  [default: in the user's cache]"),
)  # fmt: skip


@weights.command()
@click.argument("file", metavar="NAME_OR_FILE")
@clips_option
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
              help="The .int8.xml file to write.  [default: in the user's cache; `track` "
              "looks there and beside the weights]")  # fmt: skip
@click.option("--windows", default=300, show_default=True, type=click.IntRange(min=1),
              help="Windows to calibrate with.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
def quantize(
    file: str, root: Path, cache: Path | None, out: Path | None, windows: int, seed: int
) -> None:
    """Make the INT8 network for `--runtime openvino-int8`, calibrated on the training clips.

    It must pass the gate of `tracknet weights check` on the validation clips; exit code 1 if it
    does not, and then nothing is written but what --out asks for.

    \b
    tracknet weights quantize v5.safetensors --data labelled/
    """
    from tracknet.commands.console import progress
    from tracknet.jobs.quality import ClipSource, make_quantized
    from tracknet.pipeline.datasets import user_cache

    with progress("decoding") as report:
        train, val = (
            ClipSource(
                root, split, cache or user_cache("clips"), lambda d, n: report(d, n, "clips")
            )
            for split in ("train", "val")
        )
        made = make_quantized(file, train, val, windows, seed, out)
    verdict = made.verdict
    click.echo(
        f"recomputed in float32: {made.again:.1%} of the windows; "
        f"F1 {100 * verdict.f1_difference:+.2f} points, same outcome {verdict.same:.2%}, "
        f"{'passed' if verdict.passed else 'FAILED'}",
        err=True,
    )
    if made.path is not None:
        click.echo(str(made.path))
    if not verdict.passed:
        sys.exit(1)


@weights.command()
@click.argument("file", metavar="NAME_OR_FILE")
@clips_option
@click.option("--runtime", "runtimes", multiple=True,
              type=click.Choice(RUNTIMES[2:]),
              help="What to check; again for more.  [default: OpenVINO's]")  # fmt: skip
@click.option("--split", default="test", show_default=True, help="Clips of this split, if any is.")
@click.option("--frames", default=0, type=click.IntRange(min=0),
              help="About so many, from the middles of the clips; 0: all.")  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@as_json
def check(
    file: str,
    root: Path,
    cache: Path | None,
    runtimes: tuple[str, ...],
    split: str,
    frames: int,
    device: str,
    as_json: bool,
) -> None:
    """Is a fast runtime as good as PyTorch in float32?  On labelled clips; exit code 1 if not.

    F1 may differ by 0.2 points, and 99.5 % of the frames must have the same outcome.

    \b
    tracknet weights check v5.safetensors --data labelled/ --runtime openvino-int8
    tracknet weights check v5-nano --data labelled/ --frames 500
    """
    from tracknet.commands.console import print_verdicts, progress
    from tracknet.jobs.quality import ClipSource
    from tracknet.jobs.quality import check as run
    from tracknet.pipeline.datasets import user_cache

    with progress("checking") as report:
        source = ClipSource(
            root, split, cache or user_cache("clips"), lambda done, n: report(done, n, "clips")
        )
        verdicts = run(file, source, runtimes, frames, device)
    print_verdicts(verdicts, as_json)
    if not all(verdict.passed for verdict in verdicts.values()):
        sys.exit(1)
