"""The tables of scores in an output folder: `eval_frames`, `eval_metrics`, `eval_errors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracknet.schemas import parquet
from tracknet.schemas.folder import ID, Folder, named
from tracknet.schemas.tables import EVAL_ERRORS, EVAL_FRAMES, EVAL_METRICS


class Scores(Folder):
    """An output folder and the scores in it."""

    def clear_evaluation(self, protocol: str) -> None:
        """Delete the scores of a protocol, metrics first."""
        self._metrics_path(protocol).unlink(missing_ok=True)
        self._errors_path(protocol).unlink(missing_ok=True)
        for path in named(self.root / "eval_frames" / protocol, rf"{ID}\.parquet"):
            path.unlink()

    def write_eval_frames(self, protocol: str, video_id: str, rows: pa.Table) -> None:
        """Write the scored frames of one video."""
        path = self.root / "eval_frames" / protocol / f"{video_id}.parquet"
        parquet.write(rows.cast(EVAL_FRAMES), path)

    def read_eval_frames(self, protocol: str) -> pa.Table:
        """The scored frames of all videos."""
        files = named(self.root / "eval_frames" / protocol, rf"{ID}\.parquet")
        return pa.concat_tables([parquet.read(path, EVAL_FRAMES) for path in files])

    def write_eval_errors(self, protocol: str, rows: pa.Table) -> Path:
        """Write how many frames have which kind of error."""
        parquet.write(rows.cast(EVAL_ERRORS), self._errors_path(protocol))
        return self._errors_path(protocol)

    def write_eval_metrics(
        self, protocol: str, rows: pa.Table, metadata: Mapping[str, Any]
    ) -> Path:
        """Write the figures of a protocol, last: they say that the scored frames are complete."""
        parquet.write(rows.cast(EVAL_METRICS), self._metrics_path(protocol), metadata)
        return self._metrics_path(protocol)

    def _metrics_path(self, protocol: str) -> Path:
        return self.root / "eval_metrics" / f"{protocol}.parquet"

    def _errors_path(self, protocol: str) -> Path:
        return self.root / "eval_errors" / f"{protocol}.parquet"
