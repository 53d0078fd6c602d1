"""The report: complete, offline, and shown by a real browser without a complaint."""

import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from tests.bookkeeping import two_results
from tests.runs import run
from tracknet.jobs.game import fill
from tracknet.jobs.report import write_report
from tracknet.pipeline.pictures.charts import Mark, rally_path, timeline
from tracknet.schemas.store import Store


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return two_results(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def page(tables, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "report.html"
    with Store(tables).lock():
        fill(Store(tables))
    done = run("report", tables, "--out", out, "--videos", 1)
    assert done.returncode == 0, done.stderr
    return out


def test_one_file_without_links_or_scripts(page):
    text = page.read_text("utf-8")
    assert not re.findall(r"<script|<link|(?:src|href)=[\"'](?!data:|#)", text)
    assert text.count("<svg") == 2  # the timeline, and one rally
    assert text.count("data:image/jpeg;base64") == 1
    assert text.count("final.mp4</td>") == 2
    assert "The first 1 are shown below." in text


def test_a_browser_shows_it(page, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    picture = tmp_path / "page.png"
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--screenshot={picture}", "--window-size=390,900", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    shown = cv2.imread(str(picture))
    assert shown.shape[:2] == (900, 390)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 50


def test_videos_that_were_not_searched_for_events_are_named(tmp_path):
    text = write_report(Store(two_results(tmp_path)), tmp_path / "report.html").read_text("utf-8")
    assert text.count("run tracknet events find") == 2


def test_a_source_that_is_gone_has_no_picture_and_its_name_is_text(tables, tmp_path, caplog):
    copy = tmp_path / "tables"
    shutil.copytree(tables, copy)
    store = Store(copy)
    for manifest in store.manifests():
        with store.lock():
            store.rename(manifest["video_id"], str(tmp_path / "gone<i>.mp4"), [])
    text = write_report(store, tmp_path / "report.html").read_text("utf-8")
    assert "data:image" not in text
    assert "no picture of" in caplog.text
    assert "gone&lt;i&gt;.mp4" in text
    assert "<i>" not in text


def test_charts_show_what_they_are_given():
    xy = np.column_stack([np.linspace(0, 100, 40), np.full(40, 20.0)])
    marks = [Mark(10, "hit", 25.0, 20.0), Mark(30, "bounce", 75.0, 20.0)]
    drawn = rally_path(xy, marks, (128, 72))
    assert "#d1495b" in drawn
    assert "#2e86ab" in drawn
    assert rally_path(xy, marks, (128, 72)) == drawn
    over_time = timeline(np.ones(40, bool), 25.0, [(10, 30)], marks)
    assert "#edae49" in over_time
    assert "#e4e4e4" not in over_time
    shots = [(0, 19, False), (20, 39, True)]
    cut = timeline(np.ones(40, bool), 25.0, [(10, 30)], marks, shots)
    assert cut.count("#e4e4e4") == cut.count("#888888") == 1
    assert "#edae49" not in timeline(np.zeros(0, bool), 25.0, [], [])
