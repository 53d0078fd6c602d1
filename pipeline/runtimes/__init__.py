"""What computes heatmaps: PyTorch or OpenVINO, in float32, in half precision or in INT8.

May import models, tracking and datasets (for clips to check a runtime on).  Start with
`runtime.open_runtime`.
"""
