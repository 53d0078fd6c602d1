"""Sending a run to a cluster that is already there, through Ray's Job Submission API.

The job's working directory holds this package with the shipped weights.  Videos and other weights
do not travel: paths mean the same on every node (shared storage), or are URLs.  The same command
line runs there, inside the cluster, as it would run here.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tracknet.jobs import FLAGS, INSIDE_JOB
from tracknet.pipeline.errors import TrackNetError

_CODE = ("pipeline", "jobs", "schemas", "commands")
_POLL_S = 1.0
_READY_S = 60.0  # a cluster answers some seconds before it can run a job
_NOT_READY = "No available agent"
_FINAL = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


class ClusterError(TrackNetError):
    """The cluster cannot be reached, or does not know the job."""


@dataclass(frozen=True)
class JobState:
    """A job as the cluster sees it.

    Attributes:
        job_id: what `logs`, `status` and `stop` take.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        exit_code: of the job's command; None while it runs and when it was stopped.
        entrypoint: the command.
        message: the cluster's words.
    """

    job_id: str
    status: str
    exit_code: int | None
    entrypoint: str
    message: str

    @property
    def is_final(self) -> bool:
        return self.status in _FINAL


class Cluster:
    """A Ray cluster's job server.

    Args:
        address: `http://host:8265`, or `host:8265`.

    Raises:
        ClusterError: nothing answers there.
    """

    def __init__(self, address: str) -> None:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        self.address = address if "://" in address else f"http://{address}"
        with _without_ray_address():
            try:
                try:
                    self._client = JobSubmissionClient(self.address)
                except AuthenticationError:
                    # The token is shown only to a cluster that asks for it.
                    self._client = JobSubmissionClient(self.address, headers=_token_header())
            except AuthenticationError as error:
                raise ClusterError(
                    f"{self.address}: this cluster requires a token and rejected this one; set "
                    "RAY_AUTH_TOKEN, or put the token into ~/.ray/auth_token"
                ) from error
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ClusterError(
                    f"{self.address}: no Ray job server answers there ({_first_line(error)}); "
                    "give the dashboard's address, by default port 8265 of the head node"
                ) from error

    def submit(self, arguments: list[str]) -> str:
        """Run `tracknet ARGUMENTS...` on the cluster; returns the job's id.

        Raises:
            ClusterError: the cluster takes no job, also after a while.
        """
        deadline = time.monotonic() + _READY_S
        with tempfile.TemporaryDirectory() as folder:
            _copy_code(Path(folder))
            while True:
                try:
                    return self._client.submit_job(
                        entrypoint="python -m tracknet " + shlex.join(arguments),
                        runtime_env={"working_dir": folder, "env_vars": {**FLAGS, INSIDE_JOB: "1"}},
                        metadata={"project": "tracknet"},
                    )
                except RuntimeError as error:
                    if _NOT_READY not in str(error) or time.monotonic() > deadline:
                        raise ClusterError(
                            f"{self.address}: does not accept jobs ({_first_line(error)})"
                        ) from error
                    time.sleep(_POLL_S)

    def state(self, job_id: str) -> JobState:
        """How a job is doing.

        Raises:
            ClusterError: the cluster knows no such job.
        """
        try:
            return _state(self._client.get_job_info(job_id))
        except RuntimeError as error:
            raise ClusterError(f"{self.address}: no job {job_id} ({_first_line(error)})") from error

    def jobs(self) -> list[JobState]:
        """The jobs submitted by this project, newest first."""
        found = [j for j in self._client.list_jobs() if j.submission_id is not None]
        ours = [j for j in found if (j.metadata or {}).get("project") == "tracknet"]
        return [_state(j) for j in sorted(ours, key=lambda j: -(j.start_time or 0))]

    def logs(self, job_id: str) -> str:
        """All that a job has printed so far."""
        self.state(job_id)
        return self._client.get_job_logs(job_id)

    def follow(self, job_id: str) -> Iterator[str]:
        """Pieces of the log as they come, until the job has ended."""
        printed = 0
        while True:
            ended = self.state(job_id).is_final
            log = self._client.get_job_logs(job_id)
            if len(log) > printed:
                yield log[printed:]
                printed = len(log)
            if ended:
                return
            time.sleep(_POLL_S)

    def stop(self, job_id: str, timeout_s: float = 60.0) -> JobState:
        """Stop a job and wait until it has ended."""
        self.state(job_id)
        self._client.stop_job(job_id)
        deadline = time.monotonic() + timeout_s
        while not (state := self.state(job_id)).is_final and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return state


def exit_code(state: JobState) -> int:
    """The exit code that `tracknet track --address` ends with: the job's, 1 if it was stopped."""
    if state.status == "SUCCEEDED":
        return 0
    return state.exit_code or 1


def _state(info: Any) -> JobState:
    return JobState(
        job_id=info.submission_id,
        status=str(info.status.value if hasattr(info.status, "value") else info.status),
        exit_code=info.driver_exit_code,
        entrypoint=info.entrypoint,
        message=info.message or "",
    )


def _copy_code(folder: Path) -> None:
    """Lay the package out below `folder` as it is installed, also from a checkout."""
    for name in ("", *_CODE):
        package = import_module(f"tracknet.{name}".rstrip("."))
        assert package.__file__ is not None
        source, target = Path(package.__file__).parent, folder / "tracknet" / name
        shutil.copytree(
            source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )


def _token_header() -> dict[str, str]:
    """The token where Ray itself looks for one; no header when there is none."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    default = Path.home() / ".ray" / "auth_token"
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", default))
    if not token and path.is_file():
        token = path.read_text("utf-8").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


@contextmanager
def _without_ray_address() -> Iterator[None]:
    # RAY_ADDRESS silently wins over the address that the user typed.
    saved = os.environ.pop("RAY_ADDRESS", None)
    try:
        yield
    finally:
        if saved is not None:
            os.environ["RAY_ADDRESS"] = saved


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
