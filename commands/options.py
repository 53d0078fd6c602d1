"""Options and exit codes that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tracknet.schemas.files import is_remote, place

PARTIAL = 3  # done, but not with everything; what is missing is named
DEFAULT_WEIGHTS = "v5-nano"
Command = Callable[..., Any]


class Place(click.ParamType):
    """A path on this machine, checked as `click.Path` does, or a URL of an object store."""

    name = "path"

    def __init__(self, **checks: Any) -> None:
        self.path = click.Path(path_type=Path, **checks)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        try:
            found = place(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return found if is_remote(found) else self.path.convert(str(found), param, ctx)


results_argument = click.argument("out", type=Place(exists=True, file_okay=False))


def options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


def clip_cache(given: Path | None) -> Path:
    """The folder of decoded clips."""
    from platformdirs import user_cache_path

    return given or user_cache_path("tracknet") / "clips"


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")

cutting_options = options(
    click.option(
        "--weights",
        default=DEFAULT_WEIGHTS,
        show_default=True,
        help="Name of shipped weights, or a .safetensors file.",
    ),
    click.option(
        "--stride",
        type=click.IntRange(min=1),
        help="Frames between windows: 3 sees each frame once (V5's default), 1 up to three times "
        "and averages.",
    ),
    click.option(
        "--shard-seconds",
        type=click.FloatRange(min=0, min_open=True),
        default=20.0,
        show_default=True,
        help="Minimum length of a shard in seconds. Does not change results.",
    ),
)

runtime_option = click.option(
    "--runtime",
    default="auto",
    show_default=True,
    metavar="[auto|torch|openvino]",
    help="What computes the model; auto: OpenVINO on a CPU that has it, else PyTorch.",
)

precision_option = click.option(
    "--precision",
    default="auto",
    show_default=True,
    metavar="[auto|fp32|bf16|fp16|int8]",
    help="auto: on a CPU int8 where the weights have a quantized network (v5-nano has one), else "
    "bf16 where the CPU computes it; on a GPU fp16.",
)

precisions_option = click.option(
    "--precision",
    "precisions",
    multiple=True,
    metavar="[auto|fp32|bf16|fp16|int8]",
    help="Repeat for several precisions.",
)

address_option = click.option(
    "--address", help="Job server of a Ray cluster, such as http://head:8265.", metavar="URL"
)

court_option = click.option(
    "--court",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Court file, as `tracknet court` writes it: events get metres and km/h. It is kept in "
    "OUT, in place of the one before.",
)

labels_argument = click.argument(
    "root", type=click.Path(exists=True, file_okay=False, path_type=Path)
)

split_option = click.option(
    "--split", help="Only clips of this split of ROOT's clips.csv: train, val or test."
)
