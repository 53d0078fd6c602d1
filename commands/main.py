"""The command line: parse, build a config, call one function, print.

    exit code 0   all done
    exit code 1   failed
    exit code 2   wrong usage
    exit code 3   done, but some videos could not be read whole; they are named last
    exit code 130, 143   interrupted by Ctrl-C or SIGTERM; run the same command again to go on

The commands themselves are in the other files of this folder, one file per group.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from tracknet.commands import archive, cluster, events, labelled, rallies, speed, training, weights
from tracknet.commands.logs import LEVELS, set_up_logging


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tracknet")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    help="Least level of log lines.  [default: warning on a terminal, else info]",
)
@click.option(
    "--log-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append log lines to this file, too.",
)
def cli(log_level: str | None, log_file: Path | None) -> None:
    """Find the ball in every frame of every video of an archive.

    \b
    tracknet demo                                  # see it work, on a rally it makes itself
    tracknet track matches/ --out tables/          # the overnight run; run it again to resume
    tracknet inspect tables/                       # what came out
    tracknet render final.mp4 --tracks tables/ --out ball.mp4
    tracknet --log-file night.log track matches/ --out tables/
    """
    try:
        set_up_logging(log_level, log_file)
    except OSError as error:
        raise click.BadParameter(f"--log-file: {error}") from error


COMMANDS = (
    archive.plan,
    archive.track,
    archive.inspect,
    archive.render,
    rallies.synth,
    rallies.demo,
    labelled.clips,
    labelled.evaluate,
    training.train,
    training.compare,
    events.events,
    speed.benchmark,
    weights.models,
    weights.weights,
    cluster.jobs,
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point: errors that were raised on purpose become one line and an exit code."""
    from tracknet.jobs.native import own_stderr
    from tracknet.pipeline.errors import InputError, TrackNetError
    from tracknet.schemas.errors import StoreError

    own_stderr()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        # Click ends with 0 where a command returns.
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:  # Ctrl-C
        click.echo("interrupted; run the same command again to go on", err=True)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - Python flushes it at exit
        sys.exit(1)
    except (TrackNetError, StoreError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)


def _terminate(number: int, _: object) -> None:
    """End as after Ctrl-C: what is published stays, Ray and the decoders are stopped."""
    sys.exit(128 + number)
