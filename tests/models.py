"""Models with random weights that still see something."""

import torch
from torch import nn

from tracknet.pipeline.models import build


def seeing(arch, config, height, width):
    """A small model in evaluation, the statistics of its norms from random pictures."""
    torch.manual_seed(0)
    size = {"width": 0.0625, "input_height": height, "input_width": width}
    model = build(arch, size | config).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of all there was, not of its last tenth
    with torch.no_grad():
        model(torch.rand(4, model.spec.pictures, 3, height, width))
    return model.eval()
