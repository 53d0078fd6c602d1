"""What computes heatmaps: PyTorch or OpenVINO, in float32, in half precision or in INT8.

May import models, tracking, scoring and datasets (for clips to compare runtimes on).  Start with
`choice.resolve` and `opening.open_runtime`.
"""

import sys

# With this package OpenVINO and NNCF report every import and conversion to Google Analytics, and
# keep an id for that in the home folder, without asking.  They have no setting against it, but do
# without the package where it cannot be imported, which is what None means here.  Only this room
# imports them.  A program that has imported OpenVINO before us keeps its reports.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
