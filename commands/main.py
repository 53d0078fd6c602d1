"""The command line: parse, build a config, call one function, print.

    exit code 0   all done
    exit code 1   failed
    exit code 2   wrong usage
    exit code 3   done, but some videos could not be read whole; they are named last

The commands themselves are in the other files of this folder, one file per group.
"""

from __future__ import annotations

import sys

import click

from tracknet.commands import archive, cluster, labelled, rallies, speed, training, weights


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tracknet")
def cli() -> None:
    """Find the ball in every frame of every video of an archive.

    \b
    tracknet demo                                  # see it work, on a rally it makes itself
    tracknet track matches/ --out tables/          # the overnight run; run it again to resume
    tracknet inspect tables/                       # what came out
    tracknet render final.mp4 --tracks tables/ --out ball.mp4
    """


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
    speed.benchmark,
    weights.models,
    weights.weights,
    cluster.jobs,
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point: errors that were raised on purpose become one line and an exit code."""
    from tracknet.pipeline.errors import InputError, TrackNetError
    from tracknet.schemas.errors import StoreError

    try:
        cli()
    except (TrackNetError, StoreError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)
