"""A crop's draft is the picture's, and where a fast network is in doubt the float one decides."""

from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.models import seeing
from tracknet.pipeline.models import build
from tracknet.pipeline.models.blocks import DraftModel, to_frames, upsampler
from tracknet.pipeline.models.checkpoint import load_model
from tracknet.pipeline.runtimes import second_look
from tracknet.pipeline.runtimes.networks import JOINED, enlargement, to_openvino
from tracknet.pipeline.runtimes.runtime import OpenVinoRuntime
from tracknet.pipeline.runtimes.second_look import (
    CROP,
    KEPT,
    NEAR,
    USED,
    CloserLook,
    SecondLook,
    apart,
    around,
    doubtful,
    part_of_enlargement,
    span,
)

HEIGHT, WIDTH = 240, 272
EVERYTHING = 50.0  # a margin, in logits, that leaves everything in doubt
DRAFTING = [
    ("v3", {}),
    ("v4", {"fusion": "b"}),
    ("v5", {"attention": "factorized"}),
    # Made of the same parts as those above; converting each takes seconds.
    pytest.param("v2", {}, marks=pytest.mark.slow),
    pytest.param("v5", {"attention": "joint"}, marks=pytest.mark.slow),
    pytest.param("v2_mdd", {}, marks=pytest.mark.slow),
    pytest.param("v2_rstr", {}, marks=pytest.mark.slow),
]


@pytest.fixture
def wide_crops(monkeypatch):
    """Crops that are smaller than pictures, of which nothing is used that looks over their edges.

    So they give what the whole picture gives, up to rounding, also for random weights, which look
    as far as they can.
    """
    monkeypatch.setattr(second_look, "CROP", 208)


def windows(model, n=1):
    """Smooth noise, different in each picture, uint8 `[n, P, H, W, 3]`."""
    spec = model.spec
    rng = np.random.default_rng(1)
    shape = (n * spec.pictures, 3, spec.height // 4, spec.width // 4)
    coarse = torch.from_numpy(rng.random(shape, np.float32))
    fine = F.interpolate(coarse, scale_factor=4, mode="bicubic").clip(0, 1)
    pictures = (255 * fine).byte().permute(0, 2, 3, 1)
    return pictures.unflatten(0, (n, spec.pictures)).numpy()


@torch.no_grad()
def whole_draft(model, window):
    return model.draft_logits(to_frames(torch.from_numpy(window[None])))[0].numpy()


def off_by(model, much):
    """The model with other weights: what quantization does, only more of it."""
    other = deepcopy(model)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += much * parameter.std(correction=0) * torch.randn_like(parameter)
    return other


def looking_twice(fast, model, margin, threshold=0.5, threads=1):
    network = to_openvino(fast, draft=True)
    runtime = OpenVinoRuntime(network, model.spec, threads)
    return SecondLook(runtime, model, margin, threshold, threads)


def logit(p):
    return np.log(p / (1 - p))


def places_of(heatmaps, margin, threshold=0.5):
    low, high = around(threshold, margin)
    return apart(place for heatmap in heatmaps for place in doubtful(heatmap, low, high))


# ---- enlarging a part ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [1, 2, 9, 36])
def test_enlargement_is_what_pytorch_does(mode, size):
    upsample = upsampler(mode)
    matrix = enlargement(upsample, size)
    picture = torch.rand(1, 1, size, 5, dtype=torch.float64)
    across = enlargement(upsample, 5)
    found = matrix.double() @ picture @ across.double().T
    assert torch.allclose(found, upsample(picture), atol=1e-6)


@pytest.mark.parametrize("size", [2, 9, 36, 144])
def test_enlargement_keeps_corners_in_corners(size):
    """Output row i lies at i (n - 1) / (2n - 1) of the n input rows."""
    at = np.arange(2 * size) * (size - 1) / (2 * size - 1)
    expected = np.maximum(0, 1 - abs(at[:, None] - np.arange(size)))
    found = enlargement(upsampler("bilinear"), size).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("below", "above"),
    [((0, 16), (0, 32)), ((4, 20), (8, 40)), ((4, 20), (16, 32)), ((0, 36), (0, 72))],
)
def test_a_part_is_enlarged_as_in_the_picture(below, above):
    whole = enlargement(upsampler("bilinear"), 36).numpy()
    part = part_of_enlargement(whole, range(*below), range(*above))
    assert part.shape == (above[1] - above[0], below[1] - below[0])
    np.testing.assert_allclose(part.sum(axis=1), 1, atol=1e-6)
    inside = whole[above[0] + 2 : above[1] - 2, below[0] : below[1]]
    np.testing.assert_array_equal(part[2:-2], inside)
    if len(part) == len(whole):
        np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize("length", [16, 48, 96, 128, 136, 200, 288])
def test_every_place_lies_well_within_what_is_used_of_its_crop(length):
    for place in range(length):
        kept = [span(place, length, size) for size in (CROP, *KEPT, USED)]
        for pixels, size in zip(kept, (CROP, *KEPT, USED), strict=True):
            assert len(pixels) == min(size, length)
            assert pixels.start % 8 == 0
            assert set(pixels) <= set(range(length))
        assert set(range(max(0, place - NEAR), min(length, place + NEAR + 1))) <= set(kept[-1])


@pytest.mark.parametrize("length", [16, 48, 96, 128, 136, 200, 288])
def test_what_is_kept_covers_what_the_next_takes(length):
    """That is, what is seen of it by convolutions of 3x3, and by what enlarges: one more."""
    for place in range(length):
        kept = [span(place, length, size) for size in (*KEPT, USED)]
        for convolutions, stride, (of, wanted) in zip(
            (3, 2, 2), JOINED, pairwise(kept), strict=True
        ):
            seen = stride * (convolutions + (stride > 1))
            assert set(wanted) <= set(of)
            assert wanted.start - of.start >= seen or of.start == 0
            assert of.stop - wanted.stop >= seen or of.stop == length


# ---- the draft of a crop ---------------------------------------------------------------------


def differences(model):
    """How far drafts of crops lie off near places at corners, edges and inside."""
    (window,) = windows(model)
    expected = whole_draft(model, window)
    assert expected.std() > 0.3  # there is something to see
    height, width = expected.shape[1:]
    look = CloserLook(model, threads=1)
    inside, edge = (height // 2, width // 2 + 3), (101, width - 1)
    for row, column in ((0, 0), (height - 1, 3), (90, 77), inside, edge, (height - 1, width - 1)):
        first = span(row, height, USED).start, span(column, width, USED).start
        near = [
            range(max(0, place - NEAR), min(length, place + NEAR + 1))
            for place, length in zip((row, column), (height, width), strict=True)
        ]
        of_crop = [[at - start for at in along] for along, start in zip(near, first, strict=True)]
        found = look.draft(window, (row, column))
        yield abs(found[:, *np.ix_(*of_crop)] - expected[:, *np.ix_(*near)]).max()


@pytest.mark.usefixtures("wide_crops")
@pytest.mark.parametrize(("arch", "config"), DRAFTING)
def test_draft_of_a_crop_is_that_of_the_picture(arch, config):
    assert max(differences(seeing(arch, config, HEIGHT, WIDTH))) < 1e-4


def test_crops_are_large_enough_for_the_shipped_weights():
    """Even in noise, more of which lies beyond a crop than of pictures (three: up to 0.03)."""
    assert max(differences(load_model("v5-nano"))) < 0.1


# ---- a second look ---------------------------------------------------------------------------


@pytest.mark.usefixtures("wide_crops")
@pytest.mark.parametrize(("arch", "config"), DRAFTING)
def test_what_is_near_a_doubtful_spot_comes_from_the_float_network(arch, config):
    """... the rest of the draft from the fast one, and what follows from the draft in float."""
    model = seeing(arch, config, HEIGHT, WIDTH)
    fast = off_by(model, 0.05)
    (window,) = windows(model)
    found = looking_twice(fast, model, EVERYTHING)(window[None])[0]
    quick = OpenVinoRuntime(to_openvino(fast, draft=True), model.spec, 1)
    heatmaps, drafts = quick.outputs(window[None])
    draft, exact = drafts[0], whole_draft(model, window)
    changed = np.zeros_like(draft, bool)
    for row, column in places_of(heatmaps[0], EVERYTHING):
        changed[:, *np.ix_(span(row, HEIGHT, USED), span(column, WIDTH, USED))] = True
    assert 0 < changed.mean() < 0.2
    assert abs(draft - exact)[changed].max() > 0.1
    draft[changed] = exact[changed]
    with torch.no_grad():
        expected = torch.sigmoid(model.final_logits(torch.from_numpy(draft)[None]))[0].numpy()
    assert abs(found - expected).max() < 1e-4


@pytest.mark.parametrize(("arch", "config"), [("v3", {}), ("v5", {})])
def test_a_picture_that_is_used_as_a_whole_gives_what_the_float_network_gives(arch, config):
    model = seeing(arch, config, USED, USED)
    (window,) = windows(model)
    found = looking_twice(off_by(model, 0.05), model, EVERYTHING)(window[None])
    expected = OpenVinoRuntime(to_openvino(model), model.spec, 1)(window[None])
    assert abs(found - expected).max() < 2e-5


def test_models_that_need_the_whole_picture_look_at_all_of_it():
    model = seeing("v3_attention", {"width": 0.125}, 48, 64)
    (window,) = windows(model)
    looked = looking_twice(off_by(model, 0.05), model, EVERYTHING)
    expected = OpenVinoRuntime(to_openvino(model), model.spec, 1)(window[None])
    np.testing.assert_array_equal(looked(window[None]), expected)
    assert (looked.again, looked.windows) == (1, 1)
    assert not isinstance(model, DraftModel)
    assert not isinstance(build("v1", {"width": 0.0625}), DraftModel)  # nor can this one


def test_a_window_is_looked_at_for_itself():
    """Only windows in doubt, and the same way whatever is computed beside them."""
    model = seeing("v5", {}, HEIGHT, WIDTH)
    fast = off_by(model, 0.05)
    four = windows(model, 4)
    quick = OpenVinoRuntime(to_openvino(fast, draft=True), model.spec, 2)
    heatmaps = np.concatenate([quick(four[:2]), quick(four[2:])])
    threshold = float(heatmaps[1, 0].max())
    margin = 0.2
    doubtful = np.array([bool(places_of(maps, margin, threshold)) for maps in heatmaps])
    assert doubtful.any()
    assert not doubtful.all()
    looked = looking_twice(fast, model, margin, threshold, threads=2)
    assert looked.batch == 2
    alone = np.concatenate([looked(window[None]) for window in four])
    assert (looked.again, looked.windows) == (doubtful.sum(), 4)
    np.testing.assert_array_equal(alone[~doubtful], heatmaps[~doubtful])
    assert all((a != b).any() for a, b in zip(alone[doubtful], heatmaps[doubtful], strict=True))
    np.testing.assert_array_equal(looked(four[[1, 0]]), alone[[1, 0]])
    np.testing.assert_array_equal(looked(four[[2, 1]]), alone[[2, 1]])
    np.testing.assert_array_equal(looked(four[[3, 2]]), alone[[3, 2]])


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([(20, 30)], [(20, 30)]),
        ([(20, 30), (28, 38), (12, 22)], [(20, 30)]),
        ([(20, 30), (29, 30), (20, 21)], [(20, 30), (29, 30), (20, 21)]),
        ([(20, 30), (40, 30), (44, 26)], [(20, 30), (40, 30)]),
        ([], []),
    ],
)
def test_places_that_lie_together_need_one_look(places, expected):
    assert apart(places) == expected


# ---- doubt -----------------------------------------------------------------------------------


def spots(*spots):
    """A heatmap `[48, 64]` of spots: row, column, how many pixels wide and high, probability."""
    heatmap = np.zeros((48, 64), np.float32)
    for row, column, size, p in spots:
        near = slice(row - size // 2, row + size // 2 + 1)
        heatmap[near, column - size // 2 : column + size // 2 + 1] = p
    return heatmap


@pytest.mark.parametrize(
    ("heatmap", "expected"),
    [
        (spots(), []),
        (spots((20, 30, 3, 0.44)), []),  # none, even if all were a little higher
        (spots((20, 30, 3, 0.9)), []),
        (spots((20, 30, 3, 0.48)), [(20, 30)]),
        (spots((20, 30, 3, 0.52)), [(20, 30)]),
        (spots((20, 30, 5, 0.52), (20, 30, 3, 0.9)), []),  # only its rim is in doubt
        (spots((20, 30, 5, 0.48), (40, 10, 3, 0.9)), [(20, 30), (40, 10)]),  # which of the two?
        (spots((20, 30, 3, 0.48), (40, 10, 5, 0.9)), []),  # the larger one anyhow
        (spots((20, 30, 3, 0.48), (40, 10, 5, 0.52)), [(40, 10)]),
        (spots((20, 32, 7, 0.52), (20, 30, 3, 0.9)), []),  # moves by 2
        (spots((20, 33, 9, 0.52), (20, 30, 3, 0.9)), [(20, 33), (20, 30)]),  # by 3
    ],
)
def test_doubtful_is_where_a_threshold_a_little_off_finds_another_ball(heatmap, expected):
    assert doubtful(heatmap, 0.45, 0.55) == expected
    assert doubtful(heatmap, 0.5, 0.5) == []


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_around_is_a_margin_of_logits_either_way(threshold):
    low, high = around(threshold, 0.2)
    assert logit(threshold) - logit(low) == pytest.approx(0.2)
    assert logit(high) - logit(threshold) == pytest.approx(0.2)
