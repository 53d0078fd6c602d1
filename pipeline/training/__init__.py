"""Training, from labelled clips to weights.

Read in this order: `config` (recipes), `augment`, `targets`, `batches` (what a step sees),
`losses`, `start` (from other weights), `run` (the loop), `state` (what survives a kill),
`validation`.
"""

from tracknet.pipeline.training.config import FAST, PAPER, RECIPES, TrainConfig, with_changes
from tracknet.pipeline.training.run import TrainResult, train
from tracknet.pipeline.training.start import start_from
from tracknet.pipeline.training.state import Report

__all__ = [
    "FAST",
    "PAPER",
    "RECIPES",
    "Report",
    "TrainConfig",
    "TrainResult",
    "start_from",
    "train",
    "with_changes",
]
