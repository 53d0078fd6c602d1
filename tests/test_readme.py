"""The README tells the truth: its example runs, its tables are the tables."""

import re

import pytest

from tests.runs import ROOT, run
from tests.videos import make_video
from tracknet.schemas.tables import (
    EVAL_FRAMES,
    EVAL_METRICS,
    QUARANTINE,
    RUNS,
    TRAJECTORIES,
    VIDEOS,
)

README = (ROOT / "README.md").read_text("utf-8")
TABLES = {
    "trajectories/": TRAJECTORIES,
    "videos/": VIDEOS,
    "quarantine/": QUARANTINE,
    "runs/": RUNS,
    "eval_frames/PROTOCOL/": EVAL_FRAMES,
    "eval_metrics/PROTOCOL.parquet": EVAL_METRICS,
}


@pytest.mark.parametrize("name", TABLES)
def test_every_field_is_documented(name):
    section = README.split(f"### `{name}`")[1].split("###")[0]
    for field in TABLES[name]:
        meaning = field.metadata[b"description"].decode()
        assert re.search(rf"\| `{field.name}` \|.*\| {re.escape(meaning)} \|", section), field.name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_duckdb_and_pandas_read_the_tables(tiny_weights, tmp_path):
    make_video(tmp_path / "a.mp4", 31)
    out = tmp_path / "demo" / "tables"
    done = run("track", tmp_path / "a.mp4", "--out", out, "--weights", tiny_weights)
    assert done.returncode == 0, done.stderr
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    names = {}
    exec(code.replace("demo/tables", str(out)), names)
    assert len(names["rows"]) == 31
    assert len(names["ball"]) == names["rows"]["visible"].sum() > 0
    assert set(names["rows"]["width"]) == {128}
    assert names["seen"].between(0, 1).all()
