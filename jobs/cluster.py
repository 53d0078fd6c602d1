"""Where Ray runs: embedded in this process, or a cluster that is already there.

Without an address a private Ray is started on the loopback interface and ends with the process.
Inside a submitted job the cluster's own Ray is joined, so the same code runs in both places.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import utils

from tracknet.jobs import INSIDE_JOB
from tracknet.jobs.native import native_stderr_in_log
from tracknet.jobs.reaper import reaped

OBJECT_STORE_BYTES = 1 << 30


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


def count_gpus() -> int:
    """GPUs that a run here can have: the cluster's inside a job, else this machine's."""
    if inside_job():
        _join()
        return int(ray.cluster_resources().get("GPU", 0))
    import torch

    return torch.cuda.device_count()


def node_cpus() -> list[int]:
    """CPUs of each of the cluster's nodes that has any, as Ray counts them; none outside a job."""
    if not inside_job():
        return []
    _join()
    found = (int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    return [cpus for cpus in found if cpus]


def _join() -> None:
    if not ray.is_initialized():
        _init(address="auto")


def _init(**options: Any) -> None:
    # Ray's own handlers of SIGTERM end with exit code 15 or 1, and it sets the first one seconds
    # before it is ready; ours stays.  Its C++ part sets one more, which ours replaces in the end.
    terminate, handler_setter = signal.getsignal(signal.SIGTERM), utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own, about its future defaults
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
    finally:
        utils.set_sigterm_handler = handler_setter
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)
