"""The reference loop finds what the engine finds, and the benchmark measures what it says."""

import json

import av
import numpy as np
import pytest
import torch

from tracknet.commands.console import print_benchmark
from tracknet.jobs.benchmark.loop import loop_video
from tracknet.jobs.benchmark.reference import ReferenceLoop
from tracknet.jobs.benchmark.run import BenchmarkSettings, benchmark
from tracknet.pipeline.decoding.probe import fingerprint, probe
from tracknet.pipeline.errors import InputError, VideoError
from tracknet.pipeline.models import build
from tracknet.pipeline.models.checkpoint import load_model, save_model
from tracknet.pipeline.runtimes.torch_runtime import TorchRuntime
from tracknet.pipeline.synth import SynthConfig, write_dataset
from tracknet.pipeline.tracking.engine import PUBLISHED, Detector, FrameChunk

FRAMES = 14


@pytest.fixture(scope="module")
def rally(tmp_path_factory):
    """A synthetic rally of network size, so that nobody has to scale it."""
    config = SynthConfig(width=512, height=288, frames=(FRAMES, FRAMES), sport="tennis")
    return write_dataset(tmp_path_factory.mktemp("rally"), 1, 5, config)[0]


def test_reference_loop_finds_what_the_engine_finds(rally):
    with av.open(str(rally)) as container:
        pictures = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    loop = ReferenceLoop(load_model("v5-nano"))
    expected = [peak for i in range(0, 12, 3) for peak in loop.look(pictures[i : i + 3])]
    detector = Detector(TorchRuntime(load_model("v5-nano")), PUBLISHED)
    chunk = FrameChunk(range(12), 0, FRAMES, pictures)
    found = [d.candidates[0] if d.candidates else None for d in detector.detect(chunk)]
    assert sum(peak is not None for peak in found) > 6
    assert [p and p[:2] for p in found] == [p and p[:2] for p in expected]

    # From the file, OpenCV's colours differ by a little; the last, broken window is left out.
    from_file = list(loop.run(rally))
    assert len(from_file) == 12
    both = [(a, b) for a, b in zip(from_file, found, strict=True) if a and b]
    assert len(both) > 6
    assert max(abs(np.subtract(a[:2], b[:2])).max() for a, b in both) <= 1
    assert len(list(loop.run(rally, 6))) == 6


def test_reference_loop_refuses(tmp_path):
    torch.manual_seed(0)
    with pytest.raises(InputError, match="no reference loop"):
        ReferenceLoop(build("v1", {"width": 0.0625}))
    loop = ReferenceLoop(build("v2", {"width": 0.0625}))
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match="cannot open"):
        next(loop.run(tmp_path / "no.mp4"))


def test_looped_videos_are_long_sound_and_different(rally, tmp_path):
    paths = [loop_video(rally, tmp_path / f"{i}.mp4", 40, title=str(i)) for i in range(2)]
    assert [probe(path, lambda: None).frames for path in paths] == [40, 40]
    assert len({fingerprint([path], lambda: None) for path in paths}) == 2
    with av.open(str(paths[0])) as container:
        pts = [frame.pts for frame in container.decode(video=0)]
    assert len(pts) == 40
    # The last repeat is cut in decoding order, so only the frames before it are without a gap.
    assert len(set(np.diff(pts[: 40 // FRAMES * FRAMES]))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("clips", [(), (2,)])
def test_everything_is_measured(tmp_path, capsys, clips):
    weights = tmp_path / "tiny.safetensors"
    save_model(
        build("v5", {"width": 0.0625, "input_height": 144, "input_width": 256}).eval(), weights
    )
    settings = BenchmarkSettings(
        weights=str(weights), runtime="torch", frames=15, repeats=1, clips=clips
    )
    told = []
    report = benchmark(settings, lambda name, rate=None: told.append((name, rate)))
    named = {"decode", "preprocess", "model, reference", "model, torch fp32", "reference loop"}
    assert named <= set(report.stages)
    assert {(name, None) for name in named} <= set(told)
    assert {(name, timing.rate) for name, timing in report.stages.items()} <= set(told)
    assert all(timing.rate > 0 for timing in report.stages.values())
    assert report.stages["decode"].rate_per_core > 0
    (together,) = report.together
    assert together.frames == 15
    assert 0 < together.start_s <= together.wall_s
    assert min(together.cpu_s.values()) > 0
    assert together.seconds["commit"] > 0
    assert 0 < together.overhead < 1
    assert 0 < sum(together.start_cpu_s.values()) < sum(together.cpu_s.values())
    assert 0 < together.overhead_at_work <= 1  # fifteen frames take no time on a Ray that runs
    assert [scale.frames for scale in report.scaling.values()] == [30 for _ in clips]
    assert report.ratios["model, reference / reference"] == 1
    assert report.ratios["file to table / reference loop"] > 0
    assert report.matrix_rate > 1e9
    print_benchmark(report, as_json=False)
    assert "reference loop" in capsys.readouterr().out
    print_benchmark(report, as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["ratios"] == report.ratios


@pytest.mark.slow
def test_windows_of_random_weights_are_not_recomputed(rally):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    settings = BenchmarkSettings(
        width=0.0625, precisions=("int8",), video=rally, repeats=1, workers=1
    )
    report = benchmark(settings, lambda name, rate=None: None)
    assert report.model["quantized"]["benchmark"]
    (share,) = (x for name, x in report.ratios.items() if "recomputed in float32" in name)
    assert share == 0
