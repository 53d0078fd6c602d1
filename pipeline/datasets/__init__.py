"""Labelled clips: found (`clips`), decoded once (`cache`), cut into windows (`windowed`)."""

from tracknet.pipeline.datasets.cache import clip_id
from tracknet.pipeline.datasets.clips import Clip, by_split, find_clips, hold_out
from tracknet.pipeline.datasets.windowed import (
    LabelledClip,
    Sample,
    WindowedDataset,
    clip_labels,
    load_clip,
    paper_split,
)

__all__ = [
    "Clip",
    "LabelledClip",
    "Sample",
    "WindowedDataset",
    "by_split",
    "clip_id",
    "clip_labels",
    "find_clips",
    "hold_out",
    "load_clip",
    "paper_split",
]
