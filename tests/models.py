"""Models with random weights that still see something."""

from dataclasses import dataclass

import torch
from torch import nn

from tracknet.pipeline.models import build
from tracknet.pipeline.runtimes.openvino_runtime import to_openvino


@dataclass(frozen=True)
class InMemory:
    """A model that is in no file, as `pipeline.runtimes.prepared.Prepared` is of one in a file."""

    module: nn.Module

    @property
    def spec(self):
        return self.module.spec

    def model(self):
        return self.module

    def network(self, batch=1):
        return to_openvino(self.module, batch)


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
