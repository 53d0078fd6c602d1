"""README and docs are true: examples run, commands parse, tables are complete, links work.

python -m tests.test_docs > docs/tables.md          # after a change of schemas/tables.py
"""

import re
import shlex

import click
import pytest

from tests.runs import ROOT, run, share_ray
from tests.test_cli import ALL
from tests.videos import make_video
from tracknet.commands import main
from tracknet.schemas.tables import (
    EVAL_ERRORS,
    EVAL_FRAMES,
    EVAL_METRICS,
    EVENTS,
    QUARANTINE,
    RALLIES,
    RUNS,
    SHOTS,
    TRAJECTORIES,
    VIDEOS,
)

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TABLES = {
    "trajectories/, one row per frame, one file per video": TRAJECTORIES,
    "events/, hits and bounces, one file per video": EVENTS,
    "rallies/, one file per video": RALLIES,
    "shots/, between camera cuts, one file per video": SHOTS,
    "videos/, what was probed": VIDEOS,
    "quarantine/, what could not be read": QUARANTINE,
    "runs/, one row per run": RUNS,
    "eval_frames/PROTOCOL/, one row per labelled frame, one file per video": EVAL_FRAMES,
    "eval_metrics/PROTOCOL.parquet, figures by group": EVAL_METRICS,
    "eval_errors/PROTOCOL.parquet, errors by kind": EVAL_ERRORS,
}
TABLES_INTRO = """# Tables

Coordinates are pixels of the displayed picture, origin top left, pixel centres at integers. What is
missing is null, never 0, -1 or NaN. Time comes from the container: integer PTS, and seconds derived
from them.

A frame in which no ball was seen has `visible` false, and a position only if its status is
`bridged`. A frame that could not be decoded has `visible` null. Each file's metadata holds schema
version, weights and their hash, settings, decoder and software versions. A PROTOCOL is called like
`model-4px`: the space in which distance is measured, and the tolerance.

```python
import duckdb
import pandas as pd

ball = duckdb.sql(\"\"\"
    SELECT source, frame, time_s, x_px, y_px
    FROM 'demo/tables/trajectories/*.parquet'
    WHERE visible
    ORDER BY source, frame
\"\"\").df()

videos = pd.read_parquet("demo/tables/videos", columns=["video_id", "width", "height"])
rows = pd.read_parquet("demo/tables/trajectories").merge(videos, on="video_id")
seen = rows.groupby("source")["visible"].mean()
```
"""


def tables_page():
    parts = [TABLES_INTRO]
    for title, schema in TABLES.items():
        parts.append(f"\n## {title}\n\n| field | type | unit | meaning |\n|---|---|---|---|\n")
        for field in schema:
            about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
            kind = f"{field.type}, null" if field.nullable else str(field.type)
            kind = kind.replace("list<element: ", "list<").replace("list<item: ", "list<")
            kind = kind.replace(" not null>", ">")
            cells = (f"`{field.name}`", kind, about.get("unit", ""), about["description"])
            parts.append(f"| {' | '.join(cells)} |\n")
    return "".join(parts)


def test_readme_is_a_front_door():
    assert len((ROOT / "README.md").read_bytes()) <= 10_000


def test_every_field_is_documented():
    assert (ROOT / "docs" / "tables.md").read_text("utf-8") == tables_page()


def links():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
            yield page, target


@pytest.mark.parametrize(("page", "target"), list(links()), ids=str)
def test_links_lead_somewhere(page, target):
    assert target.startswith("https://") or (page.parent / target).exists()


def command_lines():
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            words = re.split(r"  #| > | < ", line.strip())[0]
            if line.startswith("    ") and words.startswith("tracknet "):
                yield words.replace("$name", "v5").removesuffix(" $options")


@pytest.mark.parametrize("line", sorted(set(command_lines())))
def test_commands_parse(line, tmp_path, monkeypatch):
    """With every path that they name in place; nothing is run."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)[1:]
    command, context = main.cli, click.Context(main.cli)
    while isinstance(command, click.Group):
        while words[0].startswith("--"):  # options of `tracknet` itself
            words = words[2:]
        command = command.get_command(context, words.pop(0))
        assert command is not None, line
    for parameter in command.params:
        kind = getattr(parameter.type, "path", parameter.type)  # of `options.Place`
        if isinstance(kind, click.Path) and kind.exists:
            monkeypatch.setattr(kind, "exists", False)
    command.make_context("tracknet", words)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_is_documented(path):
    pages = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert f"tracknet {' '.join(path)}" in pages


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_python_examples_run(tmp_path, monkeypatch, capsys):
    share_ray()
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "demo/rallies/match1/video/rally001.mp4", 31)
    names = {}
    for page in PAGES:
        for code in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            exec(code, names)
    assert len(names["balls"]) == len(names["rows"]) == 31
    assert names["report"].videos == 1
    assert names["seen"].between(0, 1).all()
    assert run("inspect", "demo/tables").returncode == 0


if __name__ == "__main__":
    print(tables_page(), end="")
