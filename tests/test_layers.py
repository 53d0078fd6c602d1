"""Imports point downwards only, from floor to floor and from room to room, and doctests hold."""

import ast
import doctest
import importlib
import subprocess
import sys

import pytest

from tests.runs import ROOT

# What each room may import, besides itself.
DECODING = TRACKING = SCORING = {"pipeline.errors", "pipeline.spec", "schemas.files"}
MODELS = {*DECODING, "pipeline.weights"}
EVENTS = {"pipeline.errors", "schemas.files"}
DATASETS = {*DECODING, "pipeline.decoding", "pipeline.scoring", "pipeline.tracking"}
RUNTIMES = {*DATASETS, "pipeline.weights", "pipeline.models", "pipeline.datasets"}
PIPELINE = {
    "pipeline.errors": set(),
    "pipeline.spec": {"pipeline.errors"},
    "pipeline.weights": {"pipeline.errors"},
    "pipeline.decoding": DECODING,
    "pipeline.models": MODELS,
    "pipeline.tracking": TRACKING,
    "pipeline.scoring": SCORING,
    "pipeline.events": EVENTS,
    "pipeline.datasets": DATASETS,
    "pipeline.pictures": {"pipeline.errors", "pipeline.decoding", "schemas.files"},
    "pipeline.synth": {"pipeline.errors", "pipeline.pictures"},
    "pipeline.runtimes": RUNTIMES,
    "pipeline.training": {*RUNTIMES, "pipeline.runtimes", "pipeline.synth"},
    "pipeline.find": {*DATASETS, "pipeline.decoding"},
}
JOBS = {*PIPELINE, "schemas", "schemas.files"}
ALLOWED = {
    "schemas.files": set(),
    "schemas": {"schemas.files"},
    **PIPELINE,
    "jobs": JOBS,
    "jobs.benchmark": {*JOBS, "jobs"},
    "commands": {*JOBS, "jobs", "jobs.benchmark"},
}
FORBIDDEN = {
    "schemas": {"torch", "numpy", "ray", "click", "av", "cv2", "decord"},
    "pipeline": {"ray", "click", "pyarrow", "pandas"},
    "jobs": {"click"},
    "commands": set(),
}


def room_of(module):
    """The room of a module `tracknet.FLOOR...`: the longest of ALLOWED that leads to it."""
    name = module.removeprefix("tracknet.")
    return max((r for r in ALLOWED if f"{name}.".startswith(f"{r}.")), key=len, default=name)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files():
    for floor in FORBIDDEN:
        for path in sorted((ROOT / floor).rglob("*.py")):
            yield str(path.relative_to(ROOT))


FILES = list(files())


def module_of(file):
    return "tracknet." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.mark.parametrize("file", FILES)
def test_imports_point_downwards(file):
    names = set(imported(ROOT / file))
    room = room_of(module_of(file))
    if file != "pipeline/__init__.py":
        entered = {room_of(name) for name in names if name.startswith("tracknet.")}
        assert entered <= ALLOWED[room] | {room}
    assert not {name.split(".")[0] for name in names} & FORBIDDEN[file.split("/")[0]]


@pytest.mark.parametrize("file", FILES)
def test_examples_in_docstrings(file):
    module = importlib.import_module(module_of(file))
    assert doctest.testmod(module).failed == 0


# What may touch FFmpeg outside of the process that has a deadline and a memory limit.
WRITERS = {"pipeline/pictures/encode.py", "jobs/benchmark/loop.py"}
STOPWATCH = {"jobs/benchmark/stages.py"}  # measures what that process costs


@pytest.mark.parametrize("file", FILES)
def test_only_the_decoder_process_opens_videos(file):
    if not file.startswith("pipeline/decoding/") and file not in WRITERS | STOPWATCH:
        names = set(imported(ROOT / file))
        opening = {f"tracknet.pipeline.decoding.probe.{n}" for n in ("probe", "decode_all")}
        assert not names & opening
        assert not {name.split(".")[0] for name in names} & {"av", "decord"}


def test_only_runtimes_import_openvino():
    """There its reports are switched off first."""
    importing = [
        file
        for file in FILES
        if {name.split(".")[0] for name in imported(ROOT / file)} & {"openvino", "nncf"}
    ]
    assert importing
    assert all(file.startswith("pipeline/runtimes/") for file in importing), importing


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from tracknet.commands import main\n"
        "try: main.cli(['track', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'ray', 'pyarrow', 'av', 'cv2', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_pytorch_is_loaded_only_where_it_computes():
    """It takes seconds: neither the driver nor a worker with an OpenVINO network waits for it."""
    code = (
        "import sys, tracknet, tracknet.jobs.stages, tracknet.pipeline.runtimes.opening\n"
        "try: tracknet.track('/no/such/video', '/no/such/folder')\n"
        "except tracknet.InputError: print('refused')\n"
        "print(sorted({'torch', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["refused", "[]"], done.stderr
