"""What computes heatmaps: PyTorch or OpenVINO, in float32, in half precision or in INT8.

May import models, tracking, scoring and datasets (for clips to compare runtimes on).  Start with
`choice.resolve` and `opening.open_runtime`.
"""
