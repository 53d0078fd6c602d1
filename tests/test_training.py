"""Recipes, the loop, resuming, and learning something at all."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from tracknet.pipeline.datasets import Clip, LabelledClip, WindowedDataset, paper_split
from tracknet.pipeline.errors import InputError, TrackNetError
from tracknet.pipeline.models import BUILDERS, Builder, build
from tracknet.pipeline.models.checkpoint import describe, load_model, save_model
from tracknet.pipeline.models.v2 import TrackNetV2, V2Config
from tracknet.pipeline.training import Report, TrainResult, train
from tracknet.pipeline.training.augment import Augment
from tracknet.pipeline.training.batches import BatchConfig
from tracknet.pipeline.training.config import FAST, PAPER, TrainConfig
from tracknet.pipeline.training.run import _groups, _moving
from tracknet.pipeline.training.start import widen
from tracknet.pipeline.training.state import read_record
from tracknet.pipeline.training.validation import validate, validation_windows

HEIGHT, WIDTH = 48, 80
OPTIONS = {"width": 1 / 16, "input_height": HEIGHT, "input_width": WIDTH, "head_bias": -3.0}
TINY = replace(
    FAST,
    steps=6,
    batches=BatchConfig(
        batch=2,
        balance=0.5,
        mask="disk",
        augment=Augment(crop=(32, 48), flip=0.5, reverse=0.5, brightness=0.1, mixup=0.5),
    ),
    report_every=2,
    validate_every=3,
    checkpoint_every=2,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def rally(n: int = 14, absent: tuple[int, ...] = (3, 4), seed: int = 0) -> LabelledClip:
    """A bright disk that swings over a chequered court."""
    rng = np.random.default_rng(seed)
    court = rng.integers(40, 120, (HEIGHT // 8, WIDTH // 8, 3)).repeat(8, 0).repeat(8, 1)
    frames = np.repeat(court[None].astype(np.uint8), n, axis=0)
    time = np.arange(n)
    xy = np.stack(
        [8 + (WIDTH - 16) * time / n, HEIGHT / 2 + (HEIGHT / 2 - 8) * np.sin(time / 2)], 1
    )
    xy[list(absent)] = np.nan
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for picture, (x, y) in zip(frames, xy, strict=True):
        picture[(columns - x) ** 2 + (rows - y) ** 2 <= 6] = (240, 255, 120)
    visibility = np.where(np.isnan(xy[:, 0]), 0, 1).astype(np.int8)
    clip = Clip("s", "m", f"r{seed}", Path(), Path(), WIDTH, HEIGHT, n)
    return LabelledClip(clip, frames, visibility, xy)


def run(config: TrainConfig, out: Path, arch: str = "v5", **kwargs: object) -> TrainResult:
    torch.manual_seed(7)
    model = build(arch, OPTIONS)
    return train(config, model, [rally()], [rally()], out, **kwargs)  # type: ignore[arg-type]


def run_and_die(out: str, step: int) -> None:
    """For a child process: train, and be killed without warning at a step."""

    def die(report: Report, share: float) -> None:
        if report.step >= step:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    run(replace(TINY, report_every=1), Path(out), on_progress=die)


def test_papers_recipe() -> None:
    assert (PAPER.lr, PAPER.epochs, PAPER.clip_norm, PAPER.batches.batch) == (1e-4, 30, 1.0, 2)
    assert PAPER.batches.mask == "paper"
    assert PAPER.batches.augment == Augment()
    assert PAPER.clamp
    rates = [PAPER.learning_rate(epoch / 30, epoch) for epoch in range(30)]
    np.testing.assert_allclose(rates, [1e-4] * 20 + [1e-5] * 5 + [1e-6] * 5)


def test_fast_recipe_warms_up_and_falls() -> None:
    rates = [FAST.learning_rate(step / 4000, step) for step in range(4000)]
    top = int(np.argmax(rates))
    assert top == 120
    assert rates[top] == FAST.lr
    assert rates[0] == pytest.approx(FAST.lr / 100)
    assert (np.diff(rates[top:]) < 0).all()
    assert rates[-1] == pytest.approx(FAST.lr / 100, rel=0.01)
    short = [FAST.learning_rate(step / 400, step) for step in range(400)]
    assert int(np.argmax(short)) == 50  # 3 % would be 12 steps
    assert (np.diff(short[:50]) >= 0).all()


@pytest.mark.parametrize("budget", [{}, {"steps": 0}, {"steps": 5, "minutes": 1.0}])
def test_exactly_one_budget(budget: dict[str, float]) -> None:
    with pytest.raises(InputError, match="exactly one budget"):
        TrainConfig(**budget)  # type: ignore[arg-type]


def test_a_tiny_model_learns_twelve_windows_by_heart(tmp_path: Path) -> None:
    config = replace(
        FAST,
        steps=100,
        lr=1e-2,
        lr_width=None,
        warmup_steps=0,
        average=None,
        batches=BatchConfig(batch=4, mask="disk", radius=2.5),
        validate_every=20,
    )
    clip = rally()
    assert len(WindowedDataset([clip], build("v5", OPTIONS).spec)) == 12
    result = run(config, tmp_path)
    assert result.best_f1 == 1.0
    model = load_model(result.best)
    counts = validate(model, validation_windows([clip], model.spec), torch.device("cpu"))
    assert (counts.tp, counts.tn, counts.f1) == (12, 2, 1.0)


def test_a_run_leaves_weights_a_record_and_curves(tmp_path: Path) -> None:
    seen: list[tuple[Report, float]] = []
    result = run(TINY, tmp_path, on_progress=lambda *told: seen.append(told))
    assert result.steps == 6
    rows = read_record(result.record)
    assert [row.step for row in rows] == [2, 3, 4, 6]
    assert [report for report, _ in seen] == rows
    assert [row.precision is not None for row in rows] == [False, True, False, True]
    assert seen[-1][1] == 1
    info = describe(result.final)
    assert info.arch == "v5"
    assert info.training["steps"] == 6
    assert info.training["config"]["batches"]["radius"] == 3.5
    assert result.best.exists()


def test_a_record_ends_at_its_last_whole_line(tmp_path: Path) -> None:
    header = "step,seconds,lr,loss,precision,recall,f1,images_per_second,skipped\n"
    record = tmp_path / "record.csv"
    record.write_text(header + "1,1.0,0.001,0.2,,,,9.0,0\n2,2.0,0.001,0.1,0.5,0.5,0.5,9.0,0\n3,2.0")
    assert [row.step for row in read_record(record)] == [1, 2]
    record.write_text("a,b\n")
    with pytest.raises(InputError, match="not a training record"):
        read_record(record)


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    whole = run(replace(TINY, report_every=1), tmp_path / "whole")
    command = (
        f"from tests.test_training import run_and_die; run_and_die({str(tmp_path / 'cut')!r}, 5)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", command], cwd=Path(__file__).parents[1], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "final.safetensors").exists()
    resumed = run(replace(TINY, report_every=1), tmp_path / "cut")

    expected, actual = load_model(whole.final).state_dict(), load_model(resumed.final).state_dict()
    for name, tensor in expected.items():
        assert torch.equal(tensor, actual[name]), name
    untimed = [
        [replace(row, seconds=0, images_per_second=0) for row in read_record(result.record)]
        for result in (whole, resumed)
    ]
    assert untimed[0] == untimed[1]
    assert [row.step for row in untimed[0]] == [1, 2, 3, 4, 5, 6]


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    run(TINY, tmp_path)
    before = (tmp_path / "final.safetensors").read_bytes()
    assert run(TINY, tmp_path).steps == 6
    after = load_model(tmp_path / "final.safetensors").state_dict()
    (tmp_path / "before.safetensors").write_bytes(before)
    for name, tensor in load_model(tmp_path / "before.safetensors").state_dict().items():
        assert torch.equal(tensor, after[name])


def test_a_folder_of_another_run_is_refused_unless_started_over(tmp_path: Path) -> None:
    run(TINY, tmp_path)
    with pytest.raises(InputError, match="another configuration"):
        run(replace(TINY, lr=0.5e-3), tmp_path)
    with pytest.raises(InputError, match="another model"):
        run(TINY, tmp_path, arch="v2")
    assert run(replace(TINY, lr=0.5e-3), tmp_path, resume=False).steps == 6
    state = torch.load(tmp_path / "state.pt")
    del state["format"]
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(InputError, match=r"state\.pt was written by another version"):
        run(replace(TINY, lr=0.5e-3), tmp_path)
    (tmp_path / "state.pt").write_bytes(b"rubbish")
    with pytest.raises(InputError, match="not a training state"):
        run(TINY, tmp_path)


def test_minutes_and_epochs_as_budget(tmp_path: Path) -> None:
    result = run(replace(TINY, steps=None, minutes=1 / 60), tmp_path / "minutes")
    assert result.seconds >= 1
    paper = replace(PAPER, epochs=2, checkpoint_every=100)
    assert run(paper, tmp_path / "epochs").steps == 2 * 6


class Exploding(TrackNetV2):
    """Its logits are not finite from the `first` to the `last` time that it is trained."""

    def __init__(self, first: int, last: int) -> None:
        torch.manual_seed(7)
        super().__init__(V2Config(**OPTIONS))
        self.bad, self.seen = range(first, last + 1), 0

    def logits(self, frames: torch.Tensor) -> torch.Tensor:
        self.seen += self.training
        bad = self.training and self.seen in self.bad
        return super().logits(frames * float("nan") if bad else frames)


def test_steps_that_are_not_finite_change_nothing_and_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Exploding(3, 4)
    monkeypatch.setitem(BUILDERS, "v2", Builder(Exploding, V2Config))
    seen: list[Report] = []
    config = replace(TINY, report_every=1, validate_every=6, steps=6)

    def look(report: Report, share: float) -> None:
        seen.append(report)

    with pytest.raises(TrackNetError, match="step 3: neither loss nor gradients have been finite"):
        train(config, model, [rally()], [rally()], tmp_path / "each", on_progress=look)
    model = Exploding(3, 4)
    config = replace(config, report_every=6)
    result = train(config, model, [rally()], [rally()], tmp_path / "some", on_progress=look)
    assert [report.skipped for report in seen] == [0, 0, 2]
    assert read_record(result.record)[-1].skipped == 2
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_the_paper_split_counts_a_frame_once_per_window(tmp_path: Path) -> None:
    spec = build("v2", OPTIONS).spec
    training, validation = paper_split([rally()], spec)
    assert len(validation_windows(validation, spec)) == len(validation) == 4
    config = replace(PAPER, epochs=1)
    result = train(config, build("v2", OPTIONS), training, validation, tmp_path)
    assert result.steps == len(training) // 2


def test_validation_windows_are_spread_and_skip_unlabelled_frames() -> None:
    clip = rally()
    partly = replace(clip, visibility=np.where(np.arange(14) < 2, -1, clip.visibility))
    model = build("v2", OPTIONS)
    windows = validation_windows([partly], model.spec)
    assert validate(model, windows, torch.device("cpu")).total == 12
    few = validation_windows([partly, partly], model.spec, limit=3)
    assert [one.window.frames[0] for one in few] == [0, 11, 11]


def test_frozen_parameters_and_statistics_stay(tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = build("v5", OPTIONS)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(replace(TINY, freeze=("unet.", "mdd.")), model, [rally()], [rally()], tmp_path)
    moved = {
        name.split(".")[0]
        for name, tensor in model.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert moved == {"draft", "refine"}
    with pytest.raises(InputError, match="nothing to freeze"):
        train(replace(TINY, freeze=("neck.",)), model, [rally()], [rally()], tmp_path / "other")


def test_a_run_starts_from_narrower_weights(tmp_path: Path) -> None:
    narrow = build("v5", {**OPTIONS, "width": 1 / 32})
    save_model(narrow, tmp_path / "narrow.safetensors")
    config = replace(
        TINY, init_from=str(tmp_path / "narrow.safetensors"), freeze=("unet.encoder1.",)
    )
    final = load_model(run(config, tmp_path / "run").final).state_dict()
    for name, tensor in widen(narrow, 1 / 16).state_dict().items():
        if name.startswith("unet.encoder1."):
            torch.testing.assert_close(final[name], tensor, rtol=0, atol=0)


def test_the_average_follows_fast_at_first() -> None:
    model = build("v2", OPTIONS)
    average = AveragedModel(model, multi_avg_fn=_moving(0.9), use_buffers=True)
    average.update_parameters(model)
    start = {name: tensor.clone() for name, tensor in average.module.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    average.update_parameters(model)
    moved = average.module.state_dict()["unet.encoder1.0.conv.weight"]
    torch.testing.assert_close(moved, start["unet.encoder1.0.conv.weight"] + (1 - 2 / 11))


@pytest.mark.parametrize(("width", "factor"), [(1 / 16, 4.0), (1 / 4, 1.0), (1.0, 0.25)])
def test_the_rate_follows_the_width(width: float, factor: float) -> None:
    with torch.device("meta"):
        parameters = list(build("v5", {"width": width}).parameters())
    tensors, scalars = _groups(parameters, FAST, width)
    assert (tensors["factor"], scalars["factor"]) == (factor, FAST.scalar_lr)
    assert _groups(parameters, PAPER, width)[0]["factor"] == 1


def test_single_numbers_have_a_rate_of_their_own(tmp_path: Path) -> None:
    moved = {}
    for factor in (1.0, 10.0):
        torch.manual_seed(7)
        model = build("v2_mdd", OPTIONS)
        config = replace(TINY, steps=1, warmup=0.0, warmup_steps=0, average=None, scalar_lr=factor)
        train(config, model, [rally()], [rally()], tmp_path / str(factor))
        moved[factor] = abs(model.mdd.beta.item() - 0.15)  # type: ignore[union-attr]
    assert moved[10.0] == pytest.approx(10 * moved[1.0], rel=0.01)
