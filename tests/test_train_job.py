"""`tracknet train`: splits, recipes changed from outside, resuming, and several processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs import run
from tracknet.jobs.train import Source, TrainSettings, sources, train_model, training_config
from tracknet.pipeline.datasets import WindowedDataset
from tracknet.pipeline.errors import InputError, WeightsError
from tracknet.pipeline.models.checkpoint import describe, load_model
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.synth import SynthConfig, write_dataset
from tracknet.pipeline.training import FAST, PAPER
from tracknet.pipeline.training.state import read_record
from tracknet.schemas.errors import Locked
from tracknet.schemas.lock import FolderLock

SPEC = WindowSpec(frames=3, targets=(0, 1, 2), height=48, width=80)
MODEL = {"width": 1 / 16, "input_height": 48, "input_width": 80, "head_bias": -3.0}
TINY = {
    "batches": {"batch": 2, "augment": {"crop": [32, 48]}},
    "report_every": 1,
    "validate_every": 2,
    "checkpoint_every": 1,
}


@pytest.fixture(scope="module")
def rallies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short rallies of one match, 14 frames each."""
    root = tmp_path_factory.mktemp("train") / "rallies"
    write_dataset(root, 3, 5, SynthConfig(width=320, height=180, frames=(14, 14)))
    return root


def settings(
    root: Path, out: Path, steps: int = 3, changes: dict[str, Any] | None = None, **more: Any
) -> TrainSettings:
    config = training_config("fast", None, TINY | (changes or {}), {"steps": steps}, False, None)
    return TrainSettings(
        root=root, out=out, arch="v2_mdd", config=config, cache=out.parent / "cache",
        model=MODEL, **more,
    )  # fmt: skip


def test_recipes_are_changed_in_order(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("lr = 5e-4\n[batches]\nbatch = 16\n[batches.augment]\npaste = 0.25\n")
    config = training_config("fast", file, {"lr": 1e-2}, {"minutes": 2.0}, True, "v5-nano")
    assert (config.lr, config.batches.batch, config.minutes, config.steps) == (1e-2, 16, 2.0, None)
    assert config.batches.augment.paste == 0.25
    assert config.batches.augment.crop is None
    assert config.batches.augment.flip == FAST.batches.augment.flip
    assert config.init_from == "v5-nano"
    assert training_config("paper", None, {}, {}, False, None) == PAPER


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"lerning_rate": 1}, "lerning_rate: Unexpected keyword"),
        ({"batches": {"augment": {"crop": "big"}}}, "batches.augment.crop"),
        ({"schedule": "never"}, "schedule"),
        ({"batches": {"batch": 0}}, "batch 0"),
    ],
)
def test_values_that_do_not_fit_are_named(values: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        training_config("fast", None, values, {}, False, None)


def test_what_is_held_out(rallies: Path, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    training, held = sources(settings(rallies, tmp_path / "run"), SPEC, lambda *n: done.append(n))
    assert not isinstance(training, WindowedDataset)
    assert not isinstance(held, WindowedDataset)
    assert {str(c.clip) for c in training}.isdisjoint({str(c.clip) for c in held})
    assert done == [(1, 3), (2, 3), (3, 3)]

    def held_out(**more: Any) -> tuple[Source, Source]:
        return sources(settings(rallies, tmp_path / "run", **more), SPEC, lambda *_: None)

    more, _ = held_out(extra=(rallies,))
    assert len(more) == len(training) + 3
    paper, leaking = sources(
        settings(rallies, tmp_path / "r", split="paper"), SPEC, lambda *_: None
    )
    assert len(paper) + len(leaking) == 3 * 12
    with pytest.raises(InputError, match="only 1"):
        held_out(split="match")
    with pytest.raises(InputError, match="no clip is in split"):
        held_out(split="index")


def test_command_trains_and_refuses_to_go_on_otherwise(rallies: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = [f"--model={key}={value}" for key, value in MODEL.items()]
    command = ["train", rallies, "--out", out, "--arch", "v2_mdd", *options,
               "--cache", tmp_path / "cache", "--set", "batches.batch=2", "--set",
               "batches.augment.crop=[32, 48]", "--set", "report_every=1"]  # fmt: skip
    done = run(*command, "--steps", 2, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["steps"] == 2
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert describe(out / "best.safetensors").arch == "v2_mdd"
    assert json.loads((out / "run.json").read_text())["config"]["batches"]["batch"] == 2
    assert [row.step for row in read_record(out / "record.csv")] == [1, 2]
    other = run(*command, "--steps", 3)
    assert other.returncode == 2
    assert "another config" in other.stderr
    assert json.loads((out / "run.json").read_text())["config"]["steps"] == 2


def test_nothing_is_left_behind_by_a_run_that_cannot_start(rallies: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "run"
    with pytest.raises(InputError, match="no labelled clip found"):
        train_model(settings(tmp_path / "empty", out))
    assert not out.exists()
    with pytest.raises(WeightsError, match="no weights"):
        train_model(settings(rallies, out, changes={"init_from": "nobody"}))
    assert train_model(settings(rallies, out, steps=1)).steps == 1  # the corrected command


def test_two_runs_do_not_share_a_folder(rallies: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with FolderLock(out / ".lock").hold(), pytest.raises(Locked, match="is being written by"):
        train_model(settings(rallies, out))
    assert sorted(file.name for file in out.iterdir()) == [".lock"]
    assert train_model(settings(rallies, out, steps=1)).steps == 1


@pytest.mark.slow
def test_two_processes_share_a_step(rallies: Path, tmp_path: Path) -> None:
    """Gradients are averaged, so two processes learn what one does; process 0 writes.

    BatchNorm is frozen, because each process would normalise over its own half of the batch.
    """
    first = train_model(settings(rallies, tmp_path / "first", steps=30))
    model = load_model(first.final)
    norms = [name for name, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    frozen = {
        "init_from": str(first.final),
        "freeze": norms,
        "bf16": False,
        "average": None,
        "warmup_steps": 0,
    }

    one = train_model(settings(rallies, tmp_path / "one", steps=2, changes=frozen))
    two = train_model(settings(rallies, tmp_path / "two", steps=2, changes=frozen, processes=2))
    assert two.steps == 2
    assert [row.step for row in read_record(two.record)] == [1, 2]
    start = model.state_dict()
    ours, theirs = load_model(two.final).state_dict(), load_model(one.final).state_dict()
    moved = torch.cat([(theirs[name] - start[name]).abs().flatten() for name in start])
    apart = torch.cat([(theirs[name] - ours[name]).abs().flatten() for name in start])
    assert moved.median() > 1e-4
    assert apart.max() < 1e-5  # the order of sums differs, and AdamW divides by their size
