"""Imports point downwards only, and asking for help costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "schemas": {"schemas"},
    "pipeline": {"pipeline", "schemas"},
    "jobs": {"jobs", "pipeline", "schemas"},
    "commands": {"commands", "jobs", "pipeline", "schemas"},
}
FORBIDDEN = {
    "schemas": {"torch", "numpy", "ray", "click", "av", "cv2", "decord"},
    "pipeline": {"ray", "click", "pyarrow", "pandas"},
    "jobs": {"click"},
    "commands": set(),
}
OURS = {"schemas", "pipeline", "jobs", "commands", "cli"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("layer", ALLOWED)
def test_imports_point_downwards(layer):
    for path in (ROOT / layer).rglob("*.py"):
        names = set(imported(path))
        assert names & OURS <= ALLOWED[layer], path
        assert not names & FORBIDDEN[layer], path


def test_help_loads_nothing_heavy():
    code = (
        "import sys, cli\n"
        "try: cli.cli(['track', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'ray', 'pyarrow', 'av', 'cv2', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_decode_workers_load_no_pytorch():
    code = "import sys, jobs.stages; print(sorted({'torch', 'openvino'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
