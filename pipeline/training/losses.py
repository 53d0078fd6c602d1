"""Weighted binary cross entropy (WBCE), the loss of TrackNetV2 and V5 (paper equation 6).

    L = -mean_i [ (1 - p_i)^2 y_i log p_i  +  p_i^2 (1 - y_i) log(1 - p_i) ]

Almost every pixel is background and soon easy; the squared factors let the easy ones go quiet, so
that the few pixels of a ball are not drowned.

>>> logits = torch.zeros(1, 3, 2, 2)  # p = 0.5 everywhere: 0.25 * ln 2 per pixel
>>> round(float(wbce(logits, torch.ones(1, 3, 2, 2))), 4)
0.1733

This module knows nothing of models, frames or masks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

CLAMP = 1e-6
_LOGIT_LIMIT = math.log((1 - CLAMP) / CLAMP)


def wbce(
    logits: Tensor, targets: Tensor, weight: Tensor | None = None, clamp: bool = True
) -> Tensor:
    """Mean WBCE over all pixels of all weighted frames, in float32.

    Args:
        logits: [B, N, H, W], any floating dtype, before the sigmoid.
        targets: [B, N, H, W] in [0, 1]; soft targets (mixup) are fine.
        weight: [B, N], how much each frame counts; 0 for unlabelled frames.  None: all count 1,
            which is the paper's plain mean.
        clamp: keep probabilities within [1e-6, 1 - 1e-6] as the released code does.  Pixels beyond
            have no gradient, even if they are wrong.  It is the logit that is clamped: the same
            function, but exact where float32 has no more room below 1.

    Returns:
        A float32 scalar; 0 if every weight is 0.
    """
    z = logits.float()
    if clamp:
        z = z.clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT)
    y = targets.float()
    p = torch.sigmoid(z)
    loss = -(1 - p).square() * y * functional.logsigmoid(z)
    loss = loss - p.square() * (1 - y) * functional.logsigmoid(-z)
    if weight is None:
        return loss.mean()
    per_frame = loss.mean(dim=(-2, -1))
    return (per_frame * weight).sum() / weight.sum().clamp_min(CLAMP)
