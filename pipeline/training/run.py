"""Training: a frozen recipe, a loop, and validation with the tracker's own rules.

Two recipes:

* `PAPER`: AdamW 1e-4, batch 2, 30 epochs, x0.1 at epochs 20 and 25, WBCE, gradient norm 1.0, full
  frames, the paper's masks, nothing augmented (section 4.1 of the V5 paper).
* `FAST`: ours.  Warm-up and cosine from a rate that follows the width (1e-3 at 1/4), crops around
  the ball, exact augmentation, the loss without its clamp, a moving average of the weights; bf16
  where the device has instructions for it.

    clips = [load_clip(c, cache, width=512, height=288) for c in find_clips(root)]
    result = train(replace(FAST, steps=4000), build("v5", {"width": 0.25}), train_clips, val_clips,
                   Path("runs/nano"))

A run that was killed continues from its last state, and on one CPU the continued run equals the
uninterrupted one bit for bit.  A budget in minutes is the exception: what it draws is the same, how
far it comes depends on the machine.

The transformer last: train `v2_mdd` first, then `v5` with `init_from` its weights.  What the two
share is copied, and the residual of the R-STR head starts at zero, so that the new model starts
where the old one ended.  The width last, likewise: narrower weights are widened first.

A step whose loss or gradients are not finite changes nothing and is counted in the record.

Where `torch.distributed` is initialised, every process calls `train` with the same arguments; they
share each batch, gradients are averaged, and process 0 validates and writes.

This module knows nothing of command lines, clusters or tables.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tracknet.pipeline.datasets import LabelledClip, WindowedDataset
from tracknet.pipeline.errors import InputError, TrackNetError
from tracknet.pipeline.models.blocks import window_spec
from tracknet.pipeline.models.checkpoint import save_model
from tracknet.pipeline.runtimes.choice import computes_bf16
from tracknet.pipeline.scoring.metrics import Counts
from tracknet.pipeline.training.batches import Batches
from tracknet.pipeline.training.config import TrainConfig
from tracknet.pipeline.training.losses import wbce
from tracknet.pipeline.training.start import start_from
from tracknet.pipeline.training.state import Record, Report, read_state, write_state
from tracknet.pipeline.training.validation import validate, validation_windows

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt(3)
_COUNTERS = ("step", "seconds", "best_f1", "skipped", "loss_steps", "reported_at")
STATE, RECORD, BEST, FINAL = "state.pt", "record.csv", "best.safetensors", "final.safetensors"

Source = Sequence[LabelledClip] | WindowedDataset
OnProgress = Callable[[Report, float], None]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        steps, seconds: spent, over all resumes.
        best_f1: on validation windows, None if never defined.
        best, final: weights files; `final` has the averaged weights of the last step.
        record: the CSV of `pipeline.training.state.Record`.
    """

    steps: int
    seconds: float
    best_f1: float | None
    best: Path
    final: Path
    record: Path


def train(
    config: TrainConfig,
    model: nn.Module,
    train_source: Source,
    val_source: Source,
    out_dir: Path,
    *,
    resume: bool = True,
    on_progress: OnProgress = lambda report, share: None,
    device: str = "cpu",
) -> TrainResult:
    """Train a heatmap model.

    Args:
        config: the recipe.
        model: fresh, as `pipeline.models.build` makes it; trained in place.
        train_source: decoded clips, or the windows of `paper_split`.
        val_source: likewise; of clips every frame is scored once, as the tracker would.
        out_dir: gets state, record and weights.
        resume: continue what `out_dir` holds; False starts over.
        on_progress: called after each report with it and with the share of the budget that is
            spent; what it raises ends the run.
        device: as PyTorch names devices.

    Raises:
        InputError: there is nothing to train on, or `freeze` names no parameter.
        InputError: `out_dir` holds a run of another configuration or model.
        InputError: several processes share the run and its budget is in minutes.
        WeightsError: `init_from` shares nothing with the model.
        TrackNetError: no step since the previous report was finite.
    """
    _keep_memory()
    run = _Run(config, model, train_source, val_source, out_dir, torch.device(device))
    if resume and (out_dir / STATE).exists():
        run.restore()
    elif config.init_from is not None:
        start_from(model, config.init_from)
    return run.to_the_end(on_progress)


class _Run:
    """The moving parts of one training run."""

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        train_source: Source,
        val_source: Source,
        out_dir: Path,
        device: torch.device,
    ) -> None:
        spec = window_spec(model)
        self.config, self.out_dir, self.device = config, out_dir, device
        self.plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
        dataset = (
            train_source
            if isinstance(train_source, WindowedDataset)
            else WindowedDataset(train_source, spec, skip_repeats=config.batches.skip_repeats)
        )
        self.rank, world = _place()
        if world > 1 and config.minutes is not None:
            raise InputError("several processes must stop together: give a budget in steps")
        self.batches = Batches(dataset, config.batches, rank=self.rank, world=world)
        self.validation = validation_windows(
            val_source, spec, config.validation_windows, config.batches.skip_repeats
        )
        self.total_steps = (
            config.epochs * self.batches.per_epoch if config.epochs is not None else config.steps
        )
        # A GPU takes batches faster than one thread draws them; a CPU has its hands full.
        self.drawing = 1 if device.type == "cpu" else max(1, min(8, (os.cpu_count() or 1) - 2))
        self.model = model.to(device)
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.trained = _trainable(model, config.freeze)
        self.logits: nn.Module = _Logits(self.model)
        if world > 1:
            self.logits = DistributedDataParallel(self.logits)
        width: float = model.config.width  # type: ignore[union-attr,assignment]
        self.optimizer = torch.optim.AdamW(_groups(self.trained, config, width), lr=config.lr)
        self.average = (
            AveragedModel(self.model, multi_avg_fn=_moving(config.average), use_buffers=True)
            if config.average is not None
            else None
        )
        self.step, self.seconds, self.best_f1, self.skipped = 0, 0.0, -1.0, 0
        self.loss_sum, self.loss_steps, self.reported_at = torch.zeros((), device=device), 0, 0.0

    def to_the_end(self, on_progress: OnProgress) -> TrainResult:
        """Train until the budget is spent."""
        self.out_dir.mkdir(parents=True, exist_ok=True)
        if self.step == 0:
            torch.manual_seed(self.config.batches.seed + self.rank)
            if self.rank == 0:
                for name in (STATE, BEST, FINAL):  # of a run that is started over
                    (self.out_dir / name).unlink(missing_ok=True)
        record = Record(self.out_dir / RECORD, keep_to=self.step) if self.rank == 0 else None
        clock = time.monotonic() - self.seconds
        with ThreadPoolExecutor(self.drawing, thread_name_prefix="batches") as ahead:
            coming = deque(
                ahead.submit(self.batches.draw, self.step + i) for i in range(self.drawing)
            )
            while (done := self.share_done()) < 1:
                batch = coming.popleft().result()
                coming.append(ahead.submit(self.batches.draw, self.step + self.drawing))
                rate = self.config.learning_rate(done, self.step)
                self.learn(*self.batches.tensors(batch, self.device), rate)
                self.step += 1
                self.seconds = time.monotonic() - clock
                if record is None:
                    continue  # process 0 does the rest
                report = self.report_if_due(record)
                if report is not None:  # validating spends the budget, but is not the pace
                    self.seconds = self.reported_at = time.monotonic() - clock
                if self.due(self.config.checkpoint_every):
                    self.checkpoint()
                if report is not None:
                    on_progress(report, self.share_done())
        return self.finish()

    def share_done(self) -> float:
        """How much of the budget is spent, 0 to 1."""
        if self.total_steps is not None:
            return self.step / self.total_steps
        assert self.config.minutes is not None
        return min(1.0, self.seconds / (60 * self.config.minutes))

    def due(self, *every: int) -> bool:
        """Whether it is time for what happens every so many steps, and at the end."""
        return self.share_done() >= 1 or any(self.step % steps == 0 for steps in every)

    def learn(self, frames: Tensor, targets: Tensor, weight: Tensor, rate: float) -> None:
        """One step of the optimizer; nothing changes where it would not be finite."""
        self.model.train()
        for name, module in self.model.named_modules():
            if name.startswith(self.config.freeze):
                module.eval()  # a frozen BatchNorm keeps its statistics, too
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        with self.autocast():
            logits = self.logits(frames)
        loss = wbce(logits, targets, weight, self.config.clamp)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.trained, self.config.clip_norm)
        if not torch.isfinite(norm + loss):
            for buffer, before in zip(self.model.buffers(), statistics, strict=True):
                buffer.copy_(before)
            self.skipped += 1
            return
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.loss_sum += loss.detach()
        self.loss_steps += 1

    def autocast(self) -> Any:
        if self.config.bf16 and computes_bf16(str(self.device)):
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def report_if_due(self, record: Record) -> Report | None:
        """Sum up since the previous report, and validate, where it is time to."""
        if not self.due(self.config.report_every, self.config.validate_every):
            return None
        if not self.loss_steps:
            raise TrackNetError(
                f"step {self.step}: neither loss nor gradients have been finite since the previous "
                "report; lower the learning rate"
            )
        spent = max(self.seconds - self.reported_at, 1e-9)
        frames = self.loss_steps * self.config.batches.batch * self.batches.dataset.spec.frames
        counts = self.validated() if self.due(self.config.validate_every) else None
        report = Report(
            step=self.step,
            seconds=round(self.seconds, 3),
            lr=self.optimizer.param_groups[0]["lr"],
            loss=self.loss_sum.item() / self.loss_steps,
            precision=counts.precision if counts else None,
            recall=counts.recall if counts else None,
            f1=counts.f1 if counts else None,
            images_per_second=round(frames / spent, 1),
            skipped=self.skipped,
        )
        record.add(report)
        self.loss_sum.zero_()
        self.loss_steps = 0
        return report

    def validated(self) -> Counts:
        """Score the shown model; keep its weights if it is the best so far."""
        with self.autocast():
            counts = validate(self.shown, self.validation, self.device)
        if counts.f1 is not None and counts.f1 > self.best_f1:
            self.best_f1 = counts.f1
            self.save(self.out_dir / BEST, counts)
        return counts

    @property
    def shown(self) -> nn.Module:
        """The model that is validated and saved: the average where there is one."""
        return self.model if self.average is None else self.average.module

    def save(self, path: Path, counts: Counts | None = None) -> None:
        training = {"config": self.plain, "steps": self.step, "seconds": self.seconds}
        metrics = {"validation_f1": counts.f1, "space": "model", "tolerance": 4} if counts else {}
        save_model(self.shown, path, training=training, metrics=metrics)

    def checkpoint(self) -> None:
        """Write everything that the next step depends on."""
        state = {
            "config": self.plain,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
            "loss_sum": self.loss_sum,
            **{name: getattr(self, name) for name in _COUNTERS},
        }
        write_state(self.out_dir / STATE, state)

    def restore(self) -> None:
        """Go back to where `checkpoint` was.

        Raises:
            InputError: the state is of another configuration or model, see `read_state`.
        """
        path = self.out_dir / STATE
        state = read_state(path)
        if state["config"] != self.plain:
            raise InputError(
                f"{path} is of a run with another configuration; choose another folder, or start "
                "over without resuming"
            )
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise InputError(f"{path} is of another model: {error}") from error
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["random"])
        torch.cuda.set_rng_state_all(state["random_cuda"])
        self.loss_sum.copy_(state["loss_sum"])
        for name in _COUNTERS:
            setattr(self, name, state[name])

    def finish(self) -> TrainResult:
        best, final = self.out_dir / BEST, self.out_dir / FINAL
        if self.rank == 0:
            self.save(final)
            if not best.exists():
                self.save(best)
        return TrainResult(
            steps=self.step,
            seconds=self.seconds,
            best_f1=self.best_f1 if self.best_f1 >= 0 else None,
            best=best,
            final=final,
            record=self.out_dir / RECORD,
        )


class _Logits(nn.Module):
    """A model's `logits` as a module, so that several processes can wrap it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.model.logits(frames)  # type: ignore[operator]
        return logits


def _keep_memory() -> None:
    """Have glibc keep the memory of freed tensors instead of handing it back to the system.

    A step on a CPU frees and takes the same hundreds of megabytes again; without this each of their
    pages is faulted in and zeroed anew, which made a step 1.3 times as long.
    """
    if platform.libc_ver()[0] == "glibc":
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_MAX, 0)
        allocator.mallopt(_M_TRIM_THRESHOLD, -1)


def _place() -> tuple[int, int]:
    """Rank and number of the processes that share this run."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _trainable(model: nn.Module, freeze: tuple[str, ...]) -> list[nn.Parameter]:
    for prefix in freeze:
        if not any(name.startswith(prefix) for name, _ in model.named_parameters()):
            raise InputError(f"nothing to freeze: no parameter's name starts with {prefix!r}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(freeze))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError(f"freezing {freeze} leaves nothing to train")
    return trained


def _moving(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential moving average that forgets fast at first: the start must not linger."""

    def update(averages: Any, values: Any, updates: Tensor) -> None:
        n = float(updates)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averages, values, updates)

    return update


def _groups(trained: list[nn.Parameter], config: TrainConfig, width: float) -> list[dict[str, Any]]:
    """Arguments of the optimizer: tensors, and single numbers with a rate of their own."""
    follows = 1.0 if config.lr_width is None else config.lr_width / width
    tensors = [parameter for parameter in trained if parameter.ndim > 0]
    scalars = [parameter for parameter in trained if parameter.ndim == 0]
    groups: list[dict[str, Any]] = [
        {"params": tensors, "weight_decay": config.weight_decay, "factor": follows},
        {"params": scalars, "weight_decay": 0.0, "factor": config.scalar_lr},
    ]
    return [group for group in groups if group["params"]]
