"""TrackNetV5 against the equations of its paper, with tensors small enough to draw."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.models import build
from tracknet.pipeline.models.v5 import (
    CONTEXT_DROPOUT,
    MDD,
    RSTR,
    EncoderLayer,
    Polarity,
    TrackNetV5,
    TSATTHead,
    V2WithMDD,
    V5Config,
    _attend,
    _attend_briefly,
    across,
    interleave,
    motion_aware,
    within_frames,
)

TINY = {"width": 1 / 16, "input_height": 32, "input_width": 48}


def square_at(*columns: int) -> Tensor:
    """Three dark frames with a white 4x4 square whose left edge is at these columns."""
    frames = torch.zeros(1, 3, 3, 12, 24)
    for index, column in enumerate(columns):
        frames[0, index, :, 4:8, column : column + 4] = 1.0
    return frames


def four_maps() -> Polarity:
    """Polarity maps that differ, so that a mix-up shows."""
    return Polarity(*(torch.full((1, 1, 2, 2), value) for value in (0.1, 0.2, 0.3, 0.4)))


def test_attention_at_zero_motion_is_small_but_not_zero() -> None:
    still = MDD()(torch.full((1, 3, 3, 2, 2), 0.5))
    alpha, beta = 0.2, 0.15
    k = 5.0 / (0.45 * abs(math.tanh(alpha)) + 1e-6)
    expected = 1 / (1 + math.exp(k * 0.6 * math.tanh(beta)))
    assert expected == pytest.approx(0.0065, abs=5e-5)
    for attention in still:
        assert torch.allclose(attention, torch.tensor(expected), atol=1e-6)


def test_square_moving_right_brightens_its_front_and_darkens_its_back() -> None:
    motion = MDD()(square_at(6, 9, 13))
    front, back = motion.brighten_prev[0, 0, 5], motion.darken_prev[0, 0, 5]
    assert (front > 0.5).nonzero().flatten().tolist() == [10, 11, 12]
    assert (back > 0.5).nonzero().flatten().tolist() == [6, 7, 8]
    front, back = motion.brighten_next[0, 0, 5], motion.darken_next[0, 0, 5]
    assert (front > 0.5).nonzero().flatten().tolist() == [13, 14, 15, 16]
    assert (back > 0.5).nonzero().flatten().tolist() == [9, 10, 11, 12]


def test_luminance_weighs_the_colours() -> None:
    frames = torch.zeros(1, 3, 3, 1, 3)
    for colour in range(3):
        frames[0, 1, colour, 0, colour] = 1.0
    difference = MDD().differences(frames).into_current
    assert torch.allclose(difference.flatten(), torch.tensor([0.299, 0.587, 0.114]))


def test_input_interleaves_frames_and_motion() -> None:
    frames = torch.arange(9.0).view(1, 3, 3, 1, 1).expand(1, 3, 3, 2, 2)
    channels = interleave(frames, four_maps())[0, :, 0, 0]
    expected = [0, 1, 2, 0.1, 0.2, 3, 4, 5, 0.3, 0.4, 6, 7, 8]
    assert channels.tolist() == pytest.approx(expected)


def test_draft_is_gated_by_what_brightens_and_its_first_frame_is_not() -> None:
    gated = motion_aware(torch.full((1, 3, 2, 2), 10.0), four_maps())
    assert gated[0, :, 0, 0].tolist() == pytest.approx([10.0, 1.0, 3.0])


class Recorder(nn.Module):
    """Stands for the head: keeps what it saw and finds nothing to correct."""

    seen: Tensor

    def forward(self, draft: Tensor) -> Tensor:
        self.seen = draft
        return torch.zeros_like(draft)


def test_masking_acts_on_both_uses_of_the_draft_in_training_only() -> None:
    refine = RSTR(V5Config(**TINY))
    refine.head = recorder = Recorder()
    draft = torch.ones(4, 3, 32, 48)
    torch.manual_seed(0)
    result = refine.train()(draft)
    assert torch.equal(result, recorder.seen)
    assert (result == 0).float().mean().item() == pytest.approx(CONTEXT_DROPOUT, abs=0.02)
    result = refine.eval()(draft)
    assert torch.equal(result, draft)
    assert torch.equal(recorder.seen, draft)


def test_result_is_draft_plus_residual() -> None:
    refine = RSTR(V5Config(**TINY)).eval()
    draft = torch.randn(2, 3, 32, 48)
    assert torch.equal(refine(draft), draft + refine.head(draft))


def test_patches_come_out_where_they_went_in() -> None:
    """Identity instead of layers: PixelShuffle must undo the cutting into 16x16 patches."""
    head = TSATTHead(V5Config(width=1, input_height=32, input_width=48))
    head.layers = nn.ModuleList()
    with torch.no_grad():
        head.embed.weight.copy_(torch.eye(256).view(256, 1, 16, 16))
        head.decode.weight.copy_(torch.eye(256).view(256, 256, 1, 1))
        for parameter in (head.embed.bias, head.decode.bias, head.place, head.time):
            assert parameter is not None
            parameter.zero_()
        draft = torch.randn(2, 3, 32, 48)
        assert torch.allclose(head(draft), draft, atol=1e-6)


def test_tokens_know_their_place_and_their_frame() -> None:
    head = TSATTHead(V5Config(**TINY))
    seen = []
    head.attend = lambda tokens: seen.append(tokens) or tokens  # type: ignore[method-assign]
    with torch.no_grad():
        head.embed.weight.zero_()
        head.embed.bias.zero_()  # type: ignore[union-attr]
        head(torch.zeros(1, 3, 32, 48))
    expected = head.place[0] + head.time[0].unsqueeze(1)
    assert torch.allclose(seen[0][0], expected)


def test_place_embedding_is_untouched_at_its_size_and_resampled_at_others() -> None:
    head = TSATTHead(V5Config(**TINY))
    assert head.place_embedding(2, 3) is head.place
    assert head.place_embedding(4, 2).shape == (1, 8, 16)
    with torch.no_grad():
        head.place.fill_(7.0)
    assert torch.allclose(head.place_embedding(5, 5), torch.tensor(7.0))


def test_encoder_layer_is_the_one_of_pytorch() -> None:
    torch.manual_seed(0)
    ours = EncoderLayer(16).eval()
    reference = nn.TransformerEncoderLayer(16, 2, 64, batch_first=True).eval()
    with torch.no_grad():
        pairs = {
            "self_attn.in_proj_weight": ours.attention.qkv.weight,
            "self_attn.in_proj_bias": ours.attention.qkv.bias,
            "self_attn.out_proj.weight": ours.attention.out.weight,
            "self_attn.out_proj.bias": ours.attention.out.bias,
            "linear1.weight": ours.expand.weight,
            "linear1.bias": ours.expand.bias,
            "linear2.weight": ours.contract.weight,
            "linear2.bias": ours.contract.bias,
            "norm1.weight": ours.norm1.weight,
            "norm1.bias": ours.norm1.bias,
            "norm2.weight": ours.norm2.weight,
            "norm2.bias": ours.norm2.bias,
        }
        for parameter in pairs.values():
            parameter.normal_(std=0.3)
    reference.load_state_dict(pairs)
    tokens = torch.randn(2, 7, 16)
    assert torch.allclose(ours(tokens), reference(tokens), atol=1e-5)


def reach(mix: object, tokens: Tensor, frame: int, place: int) -> Tensor:
    """Which of the tokens `[T, N]` change when one does."""
    changed = tokens.clone()
    changed[0, frame, place] += 1.0
    return (mix(tokens) != mix(changed)).any(-1)[0]  # type: ignore[operator]


def test_spatial_and_temporal_layers_stay_in_their_lane() -> None:
    layer = EncoderLayer(16).eval()
    tokens = torch.randn(1, 3, 4, 16)
    spatial = reach(lambda t: within_frames(layer, t), tokens, frame=1, place=2)
    assert spatial[1].all()
    assert not spatial[[0, 2]].any()
    temporal = reach(lambda t: across(layer, t), tokens, frame=1, place=2)
    assert temporal[:, 2].all()
    assert not temporal[:, [0, 1, 3]].any()


@pytest.mark.parametrize("attention", ["factorized", "joint"])
def test_every_token_reaches_every_other(attention: str) -> None:
    head = TSATTHead(V5Config(**TINY, attention=attention)).eval()  # type: ignore[arg-type]
    assert reach(head.attend, torch.randn(1, 3, 6, 16), frame=0, place=0).all()


def test_attention_modes_share_weights_but_not_results() -> None:
    torch.manual_seed(0)
    factorized = TrackNetV5(V5Config(**TINY, attention="factorized")).eval()
    joint = TrackNetV5(V5Config(**TINY, attention="joint")).eval()
    joint.load_state_dict(factorized.state_dict())
    frames = torch.rand(1, 3, 3, 32, 48)
    assert not torch.allclose(factorized.logits(frames), joint.logits(frames), atol=1e-4)


def test_training_reaches_every_parameter() -> None:
    model = TrackNetV5(V5Config(**TINY)).train()
    model.logits(torch.rand(2, 3, 3, 32, 48)).square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_crops_of_another_size_run() -> None:
    model = TrackNetV5(V5Config(**TINY)).eval()
    assert model(torch.rand(1, 3, 3, 16, 80)).shape == (1, 3, 16, 80)
    with pytest.raises(InputError, match="multiples of 16"):
        model(torch.rand(1, 3, 3, 24, 48))


def test_ablation_without_transformer_is_the_gated_draft() -> None:
    model = V2WithMDD().eval()
    frames = torch.rand(1, 3, 3, 16, 16)
    motion = model.mdd(frames)
    draft = model.draft(model.unet(interleave(frames, motion)))
    assert torch.equal(model.logits(frames), motion_aware(draft, motion))


def test_head_bias_starts_where_it_is_told() -> None:
    model = build("v5", {**TINY, "head_bias": -3.0})
    assert model.draft.bias.tolist() == [-3.0] * 3  # type: ignore[union-attr]
    assert build("v5", TINY).draft.bias is None  # type: ignore[union-attr]


@pytest.fixture
def one_thread() -> None:
    """With more threads, how a matrix product is split over them depends on its rows."""
    torch.set_num_threads(1)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("attention", ["factorized", "joint"])
def test_windows_of_a_batch_do_not_touch_one_another(attention: str) -> None:
    """Bit for bit, at the size that is used: shards cut batches differently, rows stay the same."""
    torch.manual_seed(0)
    model = TrackNetV5(V5Config(width=1 / 16, attention=attention)).eval()  # type: ignore[arg-type]
    frames = torch.rand(3, 3, 3, model.spec.height, model.spec.width)
    with torch.inference_mode():
        alone = torch.cat([model(window) for window in frames.split(1)])
        assert torch.equal(model(frames), alone)


@pytest.mark.parametrize("length", [1, 3])
def test_attention_of_a_few_tokens_is_attention(length):
    """What a GPU computes across the frames."""
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 5, 2, length, 16)
    found = _attend_briefly(query, key, value, 0.0)
    torch.testing.assert_close(found, _attend(query, key, value, 0.0))
