"""CPU time of a run on an embedded Ray, by what used it.

    with CpuUsage() as usage:
        ...  # start-up
        usage.begin()
        ...  # work
    usage.seconds["ray"], usage.seconds["ray"] - usage.before["ray"]

Ray's share of a machine cannot be seen from the time that stages take: its own processes run
beside them.  So the processes below this one are sampled until they end.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psutil

_INTERVAL_S = 0.5  # of what a process did before it ended, up to so much is missed
_ROLES = {"DecodeStage": "decode", "decoding.child": "decode", "DetectStage": "model"}
_ALL_ROLES = ("decode", "model", "ray", "driver")


class CpuUsage:
    """Samples the processes below this one, from `with` to its end.

    Attributes:
        seconds: CPU seconds in user and kernel, of
            "decode": the decode workers and their decoder processes,
            "model": the model's workers,
            "ray": all other processes, which are Ray's own,
            "driver": this process, which schedules, links and commits; not counting the sampling.
        before: of `seconds`, what was used before `begin`; all zero where that was never called.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.before = dict.fromkeys(_ALL_ROLES, 0.0)
        self._seen: dict[tuple[int, float], tuple[str, float]] = {}
        self._sampling = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> CpuUsage:
        self._entered = time.process_time()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.seconds = self._used()

    def begin(self) -> None:
        """What was used until the first call is start-up; the sample is half a second old."""
        if not any(self.before.values()):
            self.before = self._used()

    def _used(self) -> dict[str, float]:
        used = dict.fromkeys(_ALL_ROLES, 0.0)
        for role, seconds in list(self._seen.values()):  # the thread goes on
            used[role] += seconds
        used["driver"] = time.process_time() - self._entered - self._sampling
        return used

    def _sample(self) -> None:
        family = psutil.Process()
        while not self._stop.wait(_INTERVAL_S):
            for process in family.children(recursive=True):
                try:
                    with process.oneshot():
                        key = (process.pid, process.create_time())  # pids come again
                        role = _role(process.name(), process.cmdline())
                        times = process.cpu_times()
                except psutil.Error:  # it has ended
                    continue
                self._seen[key] = (role, times.user + times.system)
            self._sampling = time.thread_time()


def _role(name: str, command: list[str]) -> str:
    """What a process does; Ray's workers are named by what they run.

    >>> _role("ray::MapWorker(", ["ray::MapWorker(MapBatches(DecodeStage))"])
    'decode'
    >>> _role("raylet", ["/opt/ray/raylet", "--port=0"])
    'ray'
    """
    text = " ".join([name, *command])
    return next((role for mark, role in _ROLES.items() if mark in text), "ray")
