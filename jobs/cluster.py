"""Where Ray runs: embedded in this process, or a cluster that is already there.

Without an address a private Ray is started on the loopback interface and ends with the process.
Inside a submitted job the cluster's own Ray is joined, so the same code runs in both places.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray

OBJECT_STORE_BYTES = 1 << 30
INSIDE_JOB = "TRACKNET_INSIDE_JOB"  # set for the driver of a submitted job


@contextmanager
def ray_session(workers: int) -> Iterator[None]:
    """Join or start a Ray, and leave it.

    Args:
        workers: decode workers that an embedded Ray must have room for beside the model.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray runs its workers at the lowest priority, where any other program starves them.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, about its future defaults
        if os.environ.get(INSIDE_JOB):
            ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
        else:
            # Logical cores: the model's threads and the decoders share the real ones.
            ray.init(
                address="local",
                num_cpus=workers + 1,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    try:
        yield
    finally:
        ray.shutdown()


def cluster_gpus() -> int:
    """GPUs that the joined Ray can give."""
    return int(ray.cluster_resources().get("GPU", 0))
