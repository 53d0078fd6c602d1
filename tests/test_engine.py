"""The engine against the plainest loop one can write, and its indifference to cutting."""

import numpy as np
import pytest
import torch
from torch import nn

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.models import build
from tracknet.pipeline.models.blocks import window_spec
from tracknet.pipeline.runtimes.torch_runtime import TorchRuntime
from tracknet.pipeline.spec import WindowSpec
from tracknet.pipeline.tracking.engine import Detector, DetectorSettings, FrameChunk
from tracknet.pipeline.tracking.link import LinkSettings
from tracknet.pipeline.tracking.peaks import find_candidates
from tracknet.pipeline.tracking.windows import cut_chunks, cut_shards

N, H, W = 32, 48, 64
SPECS = {
    "v5": WindowSpec(3, (0, 1, 2), H, W),
    "looks back": WindowSpec(3, (2,), H, W),
    "background": WindowSpec(8, tuple(range(8)), H, W, background=True),
}


class Weighing(nn.Module):
    """A small convolution over all pictures: what it says depends on every one of them."""

    def __init__(self, spec):
        super().__init__()
        self.spec = spec
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3 * spec.pictures, len(spec.targets), 5, padding=2)

    def forward(self, frames):
        return torch.sigmoid(4 * self.conv(frames.flatten(1, 2)))


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 255, (N, H, W, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def background(pictures):
    return np.median(pictures, axis=0).astype(np.uint8)


def chunk_of(pictures, owned, needed, background=None, missing=()):
    part = pictures[needed.start : needed.stop]
    return FrameChunk(owned, needed.start, N, part, frozenset(missing), background)


def pulled(pictures):
    """Every sixth picture shows the one before, and a whole second stands still."""
    shown = np.arange(N)
    shown[5::6] -= 1
    shown[20:27] = 20
    return pictures[shown]


def test_a_repeat_gets_the_answer_of_its_picture_and_spoils_no_window(pictures):
    detector = Detector(TorchRuntime(Weighing(SPECS["v5"])), DetectorSettings())
    order = [0, 1, 1, 2, 3, 4, 5, 6, 7]
    n = len(order)
    repeated = detector.detect(FrameChunk(range(n), 0, n, pictures[order]))
    assert repeated[1].candidates == repeated[2].candidates
    # Its window is that of three pictures in a row, and so are the windows behind it.
    plain = detector.detect(FrameChunk(range(8), 0, 8, pictures[:8]))
    assert [d.candidates for d in repeated[:2]] == [d.candidates for d in plain[:2]]
    assert [d.candidates for d in repeated[3:6]] == [
        d.candidates for d in detector.detect(FrameChunk(range(6), 0, 6, pictures[2:8]))[:3]
    ]


@pytest.mark.parametrize("stride", [1, 3])
def test_heatmaps_equal_the_plain_loop(pictures, stride):
    model = Weighing(SPECS["v5"])
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    starts = list(range(0, N - 2, stride))
    expected = {f: [] for f in range(N)}
    with torch.no_grad():
        for start in starts:
            for i, heatmap in enumerate(model(tensor[None, start : start + 3])[0]):
                expected[start + i].append(heatmap.numpy())
        closing = model(tensor[None, N - 3 :])[0]
    for i in range(3):
        if not expected[N - 3 + i]:
            expected[N - 3 + i].append(closing[i].numpy())
    detector = Detector(TorchRuntime(model, batch=4), DetectorSettings(stride=stride))
    batches = list(detector.heatmaps(chunk_of(pictures, range(N), range(N))))
    found = {frame: heatmap for batch in batches for frame, heatmap in batch.items()}
    assert sum(len(batch) for batch in batches) == N
    assert sorted(found) == list(range(N))
    for frame, heatmaps in expected.items():
        np.testing.assert_allclose(found[frame], np.mean(heatmaps, axis=0), atol=1e-6)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("all_strides", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("with_repeats", [False, True])
def test_cutting_changes_no_bit(pictures, background, name, all_strides, batch, with_repeats):
    spec = SPECS[name]
    if with_repeats:
        pictures = pulled(pictures)
    stride = 1 if all_strides else len(spec.targets)
    detector = Detector(TorchRuntime(Weighing(spec), batch=batch), DetectorSettings(stride=stride))
    whole = detector.detect(chunk_of(pictures, range(N), range(N), background))
    keys = [(k, k / 10) for k in (0, 7, 13, 22)]
    parts = [
        detection
        for shard in cut_shards(keys, N, 0.5, spec, stride)
        for chunk in cut_chunks(shard, N, spec, stride, 8)
        for detection in detector.detect(chunk_of(pictures, chunk.owned, chunk.needed, background))
    ]
    assert parts == whole
    assert [d.frame for d in whole] == list(range(N))
    assert sum(bool(d.candidates) for d in whole) > N // 2


def test_undecodable_frame_is_said_to_be_one_and_spoils_no_other(pictures):
    detector = Detector(TorchRuntime(Weighing(SPECS["v5"])), DetectorSettings())
    broken = pictures.copy()
    broken[10] = 0
    sound = detector.detect(chunk_of(pictures, range(N), range(N)))
    found = detector.detect(chunk_of(broken, range(N), range(N), missing={10}))
    assert [d.frame for d in found if not d.decoded] == [10]
    assert not found[10].candidates
    assert [a == b for a, b in zip(found, sound, strict=True)].count(False) <= 3
    broken[10] = 255  # whatever stands in its place is not looked at
    assert detector.detect(chunk_of(broken, range(N), range(N), missing={10})) == found


@pytest.mark.parametrize("n", [1, 2])
def test_clips_shorter_than_a_window(pictures, n):
    detector = Detector(TorchRuntime(Weighing(SPECS["v5"])), DetectorSettings())
    found = detector.detect(FrameChunk(range(n), 0, n, pictures[:n]))
    assert [d.frame for d in found] == list(range(n))


def test_real_model_gives_the_peaks_of_its_own_heatmaps(pictures):
    torch.manual_seed(0)
    model = build("v5", {"width": 0.0625, "input_height": H, "input_width": W}).eval()
    detector = Detector(TorchRuntime(model), DetectorSettings(peak="contour", link=None))
    frames = torch.from_numpy(pictures[:3]).permute(0, 3, 1, 2).float().div(255)[None]
    with torch.no_grad():
        heatmaps = model(frames)[0].numpy()
    found = detector.detect(FrameChunk(range(3), 0, 3, pictures[:3]))
    expected = [find_candidates(h, "contour", 0.5, limit=1) for h in heatmaps]
    assert [list(d.candidates) for d in found] == expected


def test_linking_wants_more_and_fainter_candidates(pictures):
    runtime, chunk = TorchRuntime(Weighing(SPECS["v5"])), chunk_of(pictures, range(N), range(N))
    linked = Detector(runtime, DetectorSettings(link=LinkSettings(floor=0.8, candidates=3)))
    plain = Detector(runtime, DetectorSettings(link=None))
    assert max(len(d.candidates) for d in linked.detect(chunk)) == 3
    for one, alone in zip(linked.detect(chunk), plain.detect(chunk), strict=True):
        assert alone.candidates in ((), one.candidates[:1])


def test_model_without_heatmaps_is_refused():
    with pytest.raises(InputError, match="is not a heatmap model"):
        window_spec(build("inpaintnet"))


def test_background_is_asked_for(pictures):
    detector = Detector(TorchRuntime(Weighing(SPECS["background"])), DetectorSettings())
    with pytest.raises(InputError, match="background"):
        detector.detect(chunk_of(pictures, range(N), range(N)))


@pytest.mark.parametrize("settings", [{"threshold": 0.0}, {"threshold": 1.0}])
def test_impossible_settings(settings):
    with pytest.raises(InputError):
        DetectorSettings(**settings)
