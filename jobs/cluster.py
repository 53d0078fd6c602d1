"""Where Ray runs: embedded in this process, or a cluster that is already there.

Without an address a private Ray is started on the loopback interface and ends with the process.
Inside a submitted job the cluster's own Ray is joined, so the same code runs in both places.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray._private import node, utils

from tracknet.jobs import INSIDE_JOB
from tracknet.jobs.native import native_stderr_in_log
from tracknet.jobs.reaper import reaped
from tracknet.jobs.workers import Node

OBJECT_STORE_BYTES = 1 << 30
_WSL_GPU = Path("/dev/dxg")
# What a Ray on one machine has no use for: it adds nodes, serves the dashboard, and shows workers'
# logs.  Without them Ray is up in 2 to 3 s instead of 4 to 5 on two slow cores.
_CLUSTER_PROCESSES = ("start_monitor", "start_api_server", "start_log_monitor")


@contextmanager
def ray_session(actors: int, queue_bytes: int = 0) -> Iterator[None]:
    """Have a Ray: the cluster's inside a job, this process's if it has one, else a private one.

    Args:
        actors: decode workers and models together, which a private Ray must have room for.
        queue_bytes: that may wait between them; a private Ray's store has room for twice that.
    """
    if inside_job() or ray.is_initialized():
        _join()
        yield
        return
    with (
        native_stderr_in_log(),
        # Ray's own place, /tmp/ray, may belong to another user, and its sessions stay for ever.
        tempfile.TemporaryDirectory(prefix="tracknet-ray-", ignore_cleanup_errors=True) as folder,
        reaped(folder),
    ):
        _with_token()
        with _replaced(node.Node, dict.fromkeys(_CLUSTER_PROCESSES, _nothing)):
            # Logical cores: the model's threads and the decoders share the real ones.
            _init(
                address="local",
                num_cpus=actors,
                include_dashboard=False,
                object_store_memory=max(OBJECT_STORE_BYTES, 2 * queue_bytes),
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
        try:
            with _without_statistics():
                yield
        finally:
            ray.shutdown()


def _with_token() -> None:
    """Protect a private Ray by a token of its own; Ray would keep one in the home folder."""
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def inside_job() -> bool:
    """Whether this process is the driver of a job on a cluster."""
    return bool(os.environ.get(INSIDE_JOB))


def cluster_nodes() -> list[Node]:
    """The nodes of the cluster that a run here is on; none where it is on this machine alone."""
    if inside_job():
        _join()
    elif not ray.is_initialized():
        return []
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if len(found) == 1 and not inside_job():
        return []  # the Ray of our own, which counts logical cores
    return [Node(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in found]


def own_node() -> Node:
    """This machine.  PyTorch, which takes seconds to load, is asked only where a GPU may be."""
    gpus = 0
    if sys.platform != "linux" or any(Path("/dev").glob("nvidia[0-9]*")) or _WSL_GPU.exists():
        import torch

        gpus = torch.cuda.device_count()
    return Node(os.cpu_count() or 1, gpus)


def count_gpus() -> int:
    """GPUs that a run here can have: the cluster's, else this machine's."""
    return sum(node.gpus for node in cluster_nodes() or [own_node()])


def node_name() -> str:
    """What the node of this process is called in manifests: host, and Ray's id."""
    return f"{socket.gethostname()} {ray.get_runtime_context().get_node_id()[:8]}"


def _join() -> None:
    if not ray.is_initialized():
        _init(address="auto")


def _init(**options: Any) -> None:
    # Ray's own handlers of SIGTERM end with exit code 15 or 1, and it sets the first one seconds
    # before it is ready; ours stays.  Its C++ part sets one more, which ours replaces in the end.
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        with _replaced(utils, {"set_sigterm_handler": _nothing}), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own, about its future defaults
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)


def _nothing(*args: Any, **options: Any) -> None:
    """Stands for functions of Ray that are not wanted."""


@contextmanager
def _without_statistics() -> Iterator[None]:
    """Ray Data without its statistics, which only the dashboard shows.

    The process that would keep them takes 3 s of CPU time to start.
    """
    from ray.data._internal import stats

    updates = (
        "update_execution_metrics",
        "update_iteration_metrics",
        "register_dataset_to_stats_actor",
    )
    unused: dict[str, Callable[..., Any]] = dict.fromkeys(updates, _nothing)
    unused["gen_dataset_id_from_stats_actor"] = lambda *_: uuid4().hex
    with _replaced(getattr(stats, "_StatsManager", object), unused):
        yield


@contextmanager
def _replaced(owner: Any, functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Functions of a module or class replaced for a while; names that it lacks stay absent."""
    kept = {name: vars(owner)[name] for name in functions if name in vars(owner)}
    for name in kept:
        setattr(owner, name, functions[name])
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(owner, name, function)
