"""Models and weights: models, weights convert, show, quantize, check."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from tracknet.commands.options import as_json, clip_cache, options, precisions_option


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
    """Show the metadata of a weights file: config, hash, training record, metrics.

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
    """Make the INT8 network for `--precision int8`, calibrated on the training clips.

    It must pass the gate of `tracknet weights check` on the validation clips; exit code 1 if it
    does not, and then only the file given by --out is written.

    \b
    tracknet weights quantize v5.safetensors --data labelled/
    """
    from tracknet.commands.console import progress
    from tracknet.jobs.quality import ClipSource, make_quantized

    with progress("decoding") as report:
        train, val = (
            ClipSource(root, split, clip_cache(cache), lambda d, n: report(d, n, "clips"))
            for split in ("train", "val")
        )
        made = make_quantized(file, train, val, windows, seed, out)
    result = made.result
    passed = "passed" if result.passed else "FAILED"
    click.echo(
        f"recomputed in float32: {made.recomputed:.1%} of the windows; F1 "
        f"{100 * result.f1_difference:+.2f} points, same outcome {result.same:.2%}, {passed}",
        err=True,
    )
    if made.path is not None:
        click.echo(str(made.path))
    if not result.passed:
        sys.exit(1)


@weights.command()
@click.argument("file", metavar="NAME_OR_FILE")
@clips_option
@click.option("--runtime", default="openvino", show_default=True, metavar="[torch|openvino]",
              help="What to check.")  # fmt: skip
@precisions_option
@click.option("--split", default="test", show_default=True, help="Use clips of this split, if any.")
@click.option("--frames", default=0, type=click.IntRange(min=0),
              help="Check about this many frames, from middles of clips; 0: all.")  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@as_json
def check(
    file: str,
    root: Path,
    cache: Path | None,
    runtime: str,
    precisions: tuple[str, ...],
    split: str,
    frames: int,
    device: str,
    as_json: bool,
) -> None:
    """Compare a runtime with PyTorch in float32 on labelled clips; exit code 1 if it fails.

    Balls are found and linked as `track` does.  F1 may differ by 0.2 points, and 99.5 % of the
    frames must have the same outcome; a run of frames with another one counts as one.

    \b
    tracknet weights check v5.safetensors --data labelled/ --precision int8
    tracknet weights check v5-nano --data labelled/ --frames 500
    """
    from tracknet.commands.console import print_gate_results, progress
    from tracknet.jobs.quality import ClipSource
    from tracknet.jobs.quality import check as run

    with progress("checking") as report:
        source = ClipSource(root, split, clip_cache(cache), lambda d, n: report(d, n, "clips"))
        results = run(file, source, runtime, precisions, frames, device)
    print_gate_results(results, as_json)
    if not all(result.passed for result in results.values()):
        sys.exit(1)
