"""Finding the ball: video, windows, models, peaks, trajectories, metrics, training.

This layer knows nothing of Ray, of Parquet or of the command line.  Importing it is cheap; what
needs PyTorch is imported on first use.

    import pipeline

    model = pipeline.load_model("small")      # a torch.nn.Module in eval mode
    heatmaps = model(frames)                  # [B, T, 3, H, W] -> [B, T, H, W]
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load_model"]


def load_model(name_or_path: str | Path, device: str = "cpu") -> nn.Module:
    """A model in eval mode with its trained weights; see pipeline.checkpoint.load_model."""
    from pipeline import checkpoint

    return checkpoint.load_model(name_or_path, device)
