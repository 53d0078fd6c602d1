"""Starting from other weights: parts of a model, and narrower ones."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tracknet.pipeline.errors import InputError, WeightsError
from tracknet.pipeline.models import BUILDERS, build
from tracknet.pipeline.models.checkpoint import save_model
from tracknet.pipeline.training.start import start_from, widen

SIZE = {"input_height": 48, "input_width": 80}
NARROW = {"width": 1 / 16, **SIZE}


def settled(arch: str, width: float) -> nn.Module:
    """A model whose every bias and statistic counts: none is 0, and none is 1."""
    torch.manual_seed(3)
    model = build(arch, {"width": width} if arch == "inpaintnet" else {"width": width, **SIZE})
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.add_(0.1 * torch.rand(tensor.shape))
    return model.eval()


def inputs(model: nn.Module) -> tuple[Tensor, ...]:
    """What the model takes, at random."""
    spec = getattr(model, "spec", None)
    if spec is None:  # a repairer of trajectories: coordinates, and which are missing
        return torch.rand(2, 16, 2), torch.randint(2, (2, 16, 1)).float()
    return (torch.rand(2, spec.pictures, 3, 48, 80),)


@pytest.mark.parametrize("arch", BUILDERS)
@pytest.mark.parametrize("copies", [1, 2, 4])
def test_a_widened_model_computes_the_same(arch: str, copies: int) -> None:
    model = settled(arch, 1 / 16)
    wide = widen(model, copies / 16)
    assert wide.config.width == copies / 16  # type: ignore[union-attr]
    given = inputs(model)
    with torch.no_grad():
        before = getattr(model, "logits", model)(*given)
        after = getattr(wide, "logits", wide)(*given)
    assert before.std() > 1e-3
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_copies_do_not_stay_copies() -> None:
    """Copies with equal gradients would learn the same for ever."""
    wide = widen(settled("v5", 1 / 16), 1 / 8)
    wide.logits(inputs(wide)[0]).square().sum().backward()  # type: ignore[operator]
    for name in ("unet.encoder2.0.conv", "refine.head.layers.1.expand"):
        gradient = wide.get_parameter(f"{name}.weight").grad
        assert gradient is not None
        one, other = gradient[0::2], gradient[1::2]
        assert (one - other).norm() > 0.1 * gradient.norm()


def test_training_starts_from_narrower_weights(tmp_path: Path) -> None:
    narrow = settled("v2_mdd", 1 / 16)
    save_model(narrow, tmp_path / "narrow.safetensors")
    wide = build("v5", {"width": 1 / 8, **SIZE})
    fresh = start_from(wide, tmp_path / "narrow.safetensors")
    assert fresh
    assert all(name.startswith("refine.") for name in fresh)
    given = inputs(narrow)
    with torch.no_grad():
        torch.testing.assert_close(wide.eval()(*given), narrow(*given), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("width", [1 / 32, 3 / 32])
def test_a_width_that_is_no_multiple(width: float, tmp_path: Path) -> None:
    save_model(settled("v2", 1 / 16), tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=f"width {width:g} .* width 0.0625: .* whole multiple"):
        start_from(build("v2", {"width": width, **SIZE}), tmp_path / "weights.safetensors")


def test_the_transformer_last_begins_where_the_first_stage_ended(tmp_path: Path) -> None:
    first = settled("v2_mdd", 1 / 16)
    save_model(first, tmp_path / "first.safetensors")
    second = build("v5", NARROW)
    fresh = start_from(second, tmp_path / "first.safetensors")
    assert fresh
    assert all(name.startswith("refine.") for name in fresh)
    frames = inputs(first)[0]
    with torch.no_grad():
        torch.testing.assert_close(second.eval()(frames), first(frames), rtol=0, atol=0)
    second.train()
    second.logits(frames).sum().backward()  # type: ignore[operator]
    assert second.refine.head.decode.weight.grad.abs().max() > 0  # type: ignore[union-attr]


def test_weights_that_share_nothing(tmp_path: Path) -> None:
    save_model(build("inpaintnet", {"width": 1 / 16}), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="no parameter in common"):
        start_from(build("v2", NARROW), tmp_path / "other.safetensors")
