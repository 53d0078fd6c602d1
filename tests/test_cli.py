"""The command line as a user meets it: help, errors, and commands that need no Ray."""

import json
import re

import click
import pytest
from click.testing import CliRunner

from tests.runs import ROOT, run
from tracknet.commands import archive
from tracknet.commands import main as cli
from tracknet.commands.archive import name_what_is_faster
from tracknet.commands.cluster import _arguments
from tracknet.commands.console import progress
from tracknet.commands.logs import set_up_logging
from tracknet.jobs.settings import TrackSettings


def commands(group, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(cli.cli))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example(path):
    done = CliRunner().invoke(cli.cli, [*path, "--help"])
    assert done.exit_code == 0
    assert f"tracknet {' '.join(path)}" in done.output.split("Usage:")[1].split("\n", 1)[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["track", "nothing.mp4", "--out", "o", "--weights", "W"], 2, "no such file or folder"),
        (["track", "cli.py"], 2, "Missing option '--out'"),
        (["track", "cli.py", "--out", "o", "--weights", "none"], 1, "none"),
        (
            ["track", "cli.py", "--out", "o", "--stride", "7", "--weights", "W"],
            2,
            "between 1 and 3",
        ),
        (["track", "cli.py", "--out", "o", "--threshold", "2"], 2, "threshold"),
        (["track", "cli.py", "--out", "o", "--deadline", "tonight"], 2, "give an hour such as"),
        (["track", "cli.py", "--out", "o", "--max-failures", "few"], 2, "give a number"),
        (["inspect", "nowhere"], 2, "does not exist"),
        (["weights", "quantize", "v5-nano", "--data", "tests", "--out", "net"], 2, "end in .xml"),
        (["inspect", "tests"], 2, "tests is not a results folder"),
        (["jobs", "list", "--address", "127.0.0.1:1"], 1, "no Ray job server answers"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_mistakes_get_one_line_and_an_exit_code(tiny_weights, tmp_path, arguments, code, message):
    paths = {"W": str(tiny_weights), "o": str(tmp_path / "o")}
    done = run(*(paths.get(argument, argument) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


# Every option of `track` that is not its default; a flag's name alone turns it on.
TRACK_OPTIONS = {
    "weights": "tiny.safetensors",
    "stride": 1,
    "shard_seconds": 5.0,
    "device": "cpu",
    "runtime": "torch",
    "precision": "fp32",
    "batch": 3,
    "peak": "contour",
    "threshold": 0.25,
    "skip_repeats": False,
    "link": False,
    "workers": 5,
    "deadline": "06:00",
    "max_failures": "5%",
    "fresh": True,
    "retry": True,
    "take_lock": True,
    "court": ROOT / "pyproject.toml",
    "as_json": True,
}


@pytest.mark.parametrize("given", [{}, TRACK_OPTIONS, *({n: v} for n, v in TRACK_OPTIONS.items())])
def test_every_option_reaches_the_job(tmp_path, given):
    """The command line that goes to a cluster means there what it meant here."""
    defaults = {p.name: p.default for p in archive.track.params if isinstance(p, click.Option)}
    assert defaults.keys() == {*TRACK_OPTIONS, "out", "address"}
    assert not [name for name, value in TRACK_OPTIONS.items() if value == defaults[name]]
    root = cli.cli.make_context("tracknet", ["--log-level", "debug", "track"])
    line = ["--out", str(tmp_path), "--address", "head:8265", "--", "-odd.mp4", "more"]
    context = archive.track.make_context("track", line, parent=root)
    context.params |= given
    inputs = ("/a/-odd.mp4", "/a/more")
    sent = _arguments(context, {"inputs": inputs})
    assert sent[:3] == ["--log-level", "debug", "track"]
    there = archive.track.make_context("track", sent[3:]).params
    assert there == {**context.params, "inputs": inputs, "address": None}


def test_models_table():
    done = run("models", "--json")
    cards = {(card["arch"], card["variant"]): card for card in json.loads(done.stdout)}
    assert cards["v2", ""]["parameters"] == 11_330_304
    assert run("models").stdout.count("11.33") >= 2


def test_weights_show(tiny_weights):
    shown = json.loads(run("weights", "show", tiny_weights).stdout)
    assert shown["arch"] == "v5"
    assert shown["config"]["width"] == 0.0625


@pytest.mark.parametrize(
    ("runtime", "device", "installed", "gpus", "told"),
    [
        ("auto", "auto", False, 0, True),
        ("auto", "cpu", False, 1, True),
        ("auto", "auto", False, 1, False),
        ("auto", "cuda", False, 1, False),
        ("auto", "auto", True, 0, False),
        ("torch", "auto", False, 0, False),
    ],
)
def test_a_slow_night_is_foretold(monkeypatch, capsys, runtime, device, installed, gpus, told):
    monkeypatch.setattr("tracknet.pipeline.runtimes.choice.openvino_available", lambda: installed)
    monkeypatch.setattr("tracknet.jobs.cluster.count_gpus", lambda: gpus)
    name_what_is_faster(TrackSettings("v5-nano", runtime=runtime, device=device))
    printed = capsys.readouterr()
    assert ("tracknet[openvino]" in printed.err, printed.out) == (told, "")


def test_a_night_without_a_terminal_tells_its_story(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tracknet.commands.console.LOG_EVERY_S", 0.0)
    file = tmp_path / "logs" / "night.log"
    set_up_logging(None, file)
    with progress("tracking") as report:
        report(10, 40, "frames", "track", "1/2 videos")
        report(20, 40, "frames", "track", "1/2 videos")
    lines = file.read_text("utf-8").splitlines()
    assert lines == capsys.readouterr().err.splitlines()
    pattern = (
        r"INFO tracknet.commands.console: track: 20 of 40 frames, .* frames/s, 1/2 videos, .* left"
    )
    assert re.search(pattern, lines[-1])
    set_up_logging("error", None)
    with progress("tracking") as report:
        report(10, 40, "frames")
    assert capsys.readouterr().err == ""
