"""The command line: parse, build a config, call one function, print.

    exit code 0   all done
    exit code 1   failed
    exit code 2   wrong usage
    exit code 3   done, but some videos are unreadable or partly unreadable; they are named last
    exit code 4   stopped at --deadline or --max-failures; the last line says how to go on
    exit code 130, 143   interrupted by Ctrl-C or SIGTERM; run the same command again to resume

The commands themselves are in the other files of this folder, one file per group.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from tracknet.commands import (
    archive,
    cluster,
    court,
    events,
    export,
    labelled,
    rallies,
    speed,
    training,
    weights,
)
from tracknet.commands.logs import LEVELS, set_up_logging


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tracknet")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    help="Minimum level of log lines.  [default: warning on a terminal, else info]",
)
@click.option(
    "--log-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append log lines to this file, too.",
)
def cli(log_level: str | None, log_file: Path | None) -> None:
    """Find the ball in every frame of every video of an archive.

    \b
    tracknet demo                                  # try it on a synthetic rally
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
    archive.status,
    archive.render,
    export.export,
    export.report,
    rallies.synth,
    rallies.demo,
    labelled.clips,
    labelled.evaluate,
    court.court,
    events.events,
    training.train,
    speed.benchmark,
    weights.models,
    weights.weights,
    cluster.jobs,
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point of a process."""
    from tracknet.jobs.native import own_stderr

    own_stderr()
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Run a command; errors that were raised on purpose become one line.

    Args:
        arguments: of the command line; None takes this process's.

    Returns:
        The exit code.
    """
    from tracknet.pipeline.errors import InputError, StoppedEarly, TrackNetError
    from tracknet.schemas.errors import StoreError

    try:
        # Click returns the code of --help, and nothing for a command that is done.
        return cli.main(arguments, standalone_mode=False) or 0
    except SystemExit as ended:
        return int(ended.code or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # Ctrl-C
        click.echo("interrupted; run the same command again to resume", err=True)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - Python flushes it at exit
        return 1
    except (TrackNetError, StoreError) as error:
        click.echo(f"error: {error}", err=True)
        return 2 if isinstance(error, InputError) else 4 if isinstance(error, StoppedEarly) else 1


def _terminate(number: int, _: object) -> None:
    """End as after Ctrl-C: what is published stays, Ray and the decoders are stopped."""
    sys.exit(128 + number)
