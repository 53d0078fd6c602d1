"""Ray: what runs where, what is retried, what is committed.

Ray and OpenMP read their flags when they are first imported, so they are set here, before any
module of this layer imports them; worker processes inherit them.  A value that the environment
already has wins.
"""

import os

FLAGS = {
    # The model's threads share cores with the decoders: one that waits must not burn a core.
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Workers run at the lowest priority otherwise, where any other program starves them.
    "RAY_worker_niceness": "0",
}
INSIDE_JOB = "TRACKNET_INSIDE_JOB"  # set for the driver of a submitted job

# A private Ray's metrics reach nobody, and Ray 2.60's exporter can crash the process as it exits.
NO_METRICS = {"RAY_enable_metrics_collection": "0", "RAY_enable_open_telemetry": "0"}

# Without this (Ray named it after two systems, it works on all) even a Ray that is told to use
# 127.0.0.1 listens on every interface.
_LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

_flags = FLAGS if INSIDE_JOB in os.environ else FLAGS | NO_METRICS | _LOOPBACK_ONLY
for _name, _value in _flags.items():
    os.environ.setdefault(_name, _value)
