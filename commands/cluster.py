"""Runs on a Ray cluster: jobs list, status, logs, stop, and sending a command there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from tracknet.commands.options import as_json


@click.group()
def jobs() -> None:
    """Manage runs on a Ray cluster."""


required_address = click.option(
    "--address", required=True, help="Job server, such as http://head:8265.", metavar="URL"
)


@jobs.command("list")
@required_address
@as_json
def list_jobs(address: str, as_json: bool) -> None:
    """List the cluster's tracknet jobs, newest first.

    \b
    tracknet jobs list --address http://head:8265
    """
    from dataclasses import asdict

    from tracknet.commands.console import print_table

    found = _cluster(address).jobs()
    if as_json:
        click.echo(json.dumps([asdict(job) for job in found], indent=1))
    else:
        print_table(
            ("job", "status", "command"),
            [(job.job_id, job.status, job.entrypoint) for job in found],
        )


@jobs.command()
@click.argument("job_id")
@required_address
def status(job_id: str, address: str) -> None:
    """Print a job's status and the cluster's message.

    \b
    tracknet jobs status raysubmit_x --address http://head:8265
    """
    state = _cluster(address).state(job_id)
    click.echo(f"{state.status}  {state.message}".strip())


@jobs.command()
@click.argument("job_id")
@required_address
@click.option("--follow", is_flag=True, help="Go on until the job ends.")
def logs(job_id: str, address: str, follow: bool) -> None:
    """Print what a job has printed.

    \b
    tracknet jobs logs raysubmit_x --address http://head:8265 --follow
    """
    cluster = _cluster(address)
    for piece in cluster.follow(job_id) if follow else [cluster.logs(job_id)]:
        click.echo(piece, nl=False)


@jobs.command()
@click.argument("job_id")
@required_address
def stop(job_id: str, address: str) -> None:
    """Stop a job; the same `track` resumes it later.

    \b
    tracknet jobs stop raysubmit_x --address http://head:8265
    """
    click.echo(_cluster(address).stop(job_id).status)


def _cluster(address: str) -> Any:
    from tracknet.jobs.submit import Cluster

    cluster = Cluster(address)
    click.echo(f"cluster {cluster.address}", err=True)
    return cluster


def run_on_cluster(address: str, context: click.Context, **absolute: Any) -> int:
    """Run the command that was given here on a cluster, show its log, return its exit code.

    Args:
        address: of the job server.
        context: of the command.
        absolute: parameters that mean something else there, replaced.
    """
    from tracknet.jobs.submit import exit_code

    cluster = _cluster(address)
    job_id = cluster.submit(_arguments(context, absolute))
    click.echo(f"job {job_id}", err=True)
    try:
        for piece in cluster.follow(job_id):
            click.echo(piece, nl=False)
    except KeyboardInterrupt:
        click.echo(
            f"\nThe job goes on. Stop it with: tracknet jobs stop {job_id} "
            f"--address {cluster.address}",
            err=True,
        )
        return 1
    state = cluster.state(job_id)
    click.echo(f"job {job_id} {state.status}", err=True)
    return exit_code(state)


def absolute(text: str) -> str:
    """An input as it is called on every node.

    >>> absolute("s3://bucket/a/../b.mp4"), absolute("/videos/../*.mp4")
    ('s3://bucket/a/../b.mp4', '/*.mp4')
    """
    return text if "://" in text else os.path.abspath(text)  # noqa: PTH100 - or a glob


def weights_there(name: str) -> str:
    """What weights are called on every node: shipped ones by their name, others by their path.

    Raises:
        WeightsError: there are none.
    """
    from tracknet.pipeline.weights import SHIPPED, find_weights

    found = find_weights(name).absolute()
    return found.stem if found.parent == SHIPPED else str(found)


def _arguments(context: click.Context, replaced: dict[str, Any]) -> list[str]:
    """The command line of a command, without its address; paths are absolute."""
    whole, arguments = [], []
    for part in filter(None, (context.parent, context)):
        options: list[str] = []
        for parameter in part.command.params:
            given = {**part.params, **replaced}.get(str(parameter.name))
            if parameter.name == "address" or given is None:
                continue
            values = given if isinstance(given, tuple) else (given,)
            texts = [str(v.absolute()) if isinstance(v, Path) else str(v) for v in values]
            if isinstance(parameter, click.Argument):
                arguments += texts
            elif isinstance(given, bool):
                options += parameter.opts[:1] if given else parameter.secondary_opts[:1]
            else:
                options += [word for text in texts for word in (parameter.opts[0], text)]
        whole += options if part is context.parent else [str(part.info_name), *options]
    return [*whole, "--", *arguments]
