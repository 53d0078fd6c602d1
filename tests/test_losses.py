"""WBCE against the paper's equation 6 written out naively."""

import torch

from tracknet.pipeline.training.losses import wbce


def equation_6(p: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    p = p.double().clamp(1e-6, 1 - 1e-6)
    return -((1 - p) ** 2 * y * p.log() + p**2 * (1 - y) * (1 - p).log()).mean()


def test_equals_the_papers_equation() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 8, 8) * 4
    targets = (torch.rand(2, 3, 8, 8) > 0.9).float()
    expected = equation_6(torch.sigmoid(logits.double()), targets.double())
    torch.testing.assert_close(wbce(logits, targets).double(), expected, rtol=1e-5, atol=0)


def test_extreme_logits_are_clamped_and_finite() -> None:
    logits = torch.tensor([[[[-200.0, 200.0]]]], requires_grad=True)
    targets = torch.tensor([[[[1.0, 0.0]]]])
    loss = wbce(logits, targets)
    expected = equation_6(torch.sigmoid(logits.detach()), targets)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0)
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_without_the_clamp_the_loss_is_the_same_and_what_is_far_off_has_a_gradient() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 8, 8) * 2, (torch.rand(2, 3, 8, 8) > 0.9).float()
    torch.testing.assert_close(wbce(logits, targets, clamp=False), wbce(logits, targets))
    far = torch.tensor([[[[-200.0, 200.0]]]], requires_grad=True)
    wrong = torch.tensor([[[[1.0, 0.0]]]])
    wbce(far, wrong).backward()
    assert far.grad is not None
    assert far.grad.flatten().tolist() == [0, 0]
    far.grad = None
    wbce(far, wrong, clamp=False).backward()
    assert far.grad is not None
    torch.testing.assert_close(far.grad.flatten(), torch.tensor([-0.5, 0.5]))


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits = torch.full((1, 1, 2, 2), -9.0, dtype=torch.bfloat16)
    loss = wbce(logits, torch.zeros(1, 1, 2, 2))
    assert loss.dtype == torch.float32
    assert 0 < loss < 1e-10


def test_unlabelled_frames_give_neither_loss_nor_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    targets = torch.zeros(1, 3, 4, 4)
    weight = torch.tensor([[1.0, 0.0, 1.0]])
    loss = wbce(logits, targets, weight)
    torch.testing.assert_close(loss, wbce(logits[:, [0, 2]], targets[:, [0, 2]]))
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[:, 1].abs().max() == 0


def test_nothing_labelled_is_a_loss_of_zero() -> None:
    loss = wbce(torch.randn(1, 3, 4, 4), torch.ones(1, 3, 4, 4), torch.zeros(1, 3))
    assert loss == 0


def test_weights_of_one_are_the_plain_mean() -> None:
    logits, targets = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 4, 4).round()
    torch.testing.assert_close(wbce(logits, targets), wbce(logits, targets, torch.ones(2, 3)))
