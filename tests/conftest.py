"""Fixtures that several test files share."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from filelock import FileLock

from tests.runs import run
from tests.videos import make_video

# Ray starts one process per test session and machine; keep its noise and its telemetry out.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# An S3 server of these tests' own, see the fixture `bucket`; set now, for Ray's workers inherit it.
with socket.create_server(("127.0.0.1", 0)) as free:
    S3_PORT = free.getsockname()[1]
os.environ |= {
    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{S3_PORT}",
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_DEFAULT_REGION": "us-east-1",
}


# How long an example takes says something of the machine, not of the code.
hypothesis.settings.register_profile("tracknet", deadline=None)
hypothesis.settings.load_profile("tracknet")


def pytest_configure(config: pytest.Config) -> None:
    # Raised inside third-party packages; everything else that warns is an error.
    for pattern in ("ignore::DeprecationWarning:ray.*", "ignore::FutureWarning:ray.*",
                    "ignore::ResourceWarning"):  # fmt: skip
        config.addinivalue_line("filterwarnings", pattern)
    warnings.filterwarnings("ignore", category=ResourceWarning)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """PyTorch's threads, which round differently, as before: some tests change their number."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[..., Path]:
    """Makes a folder once for all processes of a test run: `shared(name, make)`.

    `make` is given the folder.  Nobody writes to it later.
    """
    base = tmp_path_factory.getbasetemp()
    root = base if worker_id == "master" else base.parent

    def shared(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = root / name, root / f"{name}.made"
        with FileLock(root / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return shared


@pytest.fixture(scope="session")
def tiny_weights(shared: Callable[..., Path]) -> Path:
    """A small V5 with seeded random weights: what it finds is noise, and the same each time."""

    def make(folder: Path) -> None:
        from tracknet.pipeline.models import build
        from tracknet.pipeline.models.checkpoint import save_model

        torch.manual_seed(0)
        model = build("v5", {"width": 0.0625, "input_height": 144, "input_width": 256})
        save_model(model.eval(), folder / "tiny.safetensors")

    return shared("weights", make) / "tiny.safetensors"


@pytest.fixture(scope="session")
def archive(shared: Callable[..., Path]) -> Path:
    """Three sound videos of 230, 50 and 61 frames, one of them in a folder below.

    The long one has 3 frames a second, so that it lasts for shards of a minute, too.
    """

    def make(folder: Path) -> None:
        make_video(folder / "long.mp4", 230, width=320, height=180, gop=30, fps=3)
        make_video(folder / "short.mp4", 50, width=320, height=180, gop=25)
        make_video(folder / "sub" / "other.mkv", 61, width=256, height=144, gop=20)

    return shared("archive", make)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real labelled clips, where there is one."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TRACKNET_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder}; set TRACKNET_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The URL of a bucket on a real S3 server on loopback."""
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", S3_PORT, verbose=False)
    server.start()
    S3FileSystem().mkdir("archive")
    yield "s3://archive"
    server.stop()


@pytest.fixture(scope="session")
def undisturbed(
    shared: Callable[..., Path],
    archive: Path,
    tiny_weights: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Any]]:
    """The rows of a run that nothing disturbs: shards of 20 s, one worker; a copy for this process.

    And what the run printed.
    """

    def make(folder: Path) -> None:
        command = ("track", archive, "--out", folder / "out", "--weights", tiny_weights, "--json")
        done = run(*command)
        assert done.returncode == 0, done.stderr
        (folder / "printed.json").write_text(done.stdout)

    made = shared("undisturbed", make)
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    shutil.copytree(made / "out", out)
    return out, json.loads((made / "printed.json").read_text())


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """What `tracknet` commands that ran in this process made of the log is undone."""
    yield
    log = logging.getLogger("tracknet")
    log.propagate = True
    for handler in log.handlers[:]:
        log.removeHandler(handler)
