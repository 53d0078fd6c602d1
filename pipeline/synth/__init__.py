"""Synthetic rallies, drawn with exact labels, and balls pasted into real pictures.

Read in this order: `rally` (physics), `camera`, `player`, `scene`, `film` (drawing), `clips` (for
others).
"""

from tracknet.pipeline.synth.clips import SynthConfig, paste_ball, synthesize_clip, write_dataset

__all__ = ["SynthConfig", "paste_ball", "synthesize_clip", "write_dataset"]
