"""What computes heatmaps: PyTorch or OpenVINO, in float32, in half precision or in INT8.

May import models, tracking, scoring and datasets (for clips to compare runtimes on).  Start with
`choice.resolve` and `opening.open_runtime`.
"""

import sys

# OpenVINO and NNCF use this package to report every import and conversion to Google Analytics, and
# keep an id for that in the home folder, without asking.  Both do without it where it cannot be
# imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
