"""The main job on a real Ray: one row per frame, whatever the cutting, the files, the model."""

import json
import os

import pytest
import torch

from tests.runs import ARCHIVE, check_one_row_per_frame, rows, run
from tests.videos import make_video, truncate


def test_one_row_per_frame(undisturbed):
    out, report = undisturbed
    tables = rows(out)
    check_one_row_per_frame(tables, ARCHIVE)
    assert report["videos"] == 3
    assert report["frames"] == sum(ARCHIVE.values())
    assert report["quarantined"] == []
    assert report["runtime"].split()[0] in ("torch", "openvino")
    assert all(table["x_px"].null_count < len(table) for table in tables.values())
    assert not list((out / "staging").glob("*/*"))


def test_running_again_does_nothing(undisturbed, archive, tiny_weights):
    out, _ = undisturbed
    done = run("track", archive, "--out", out, "--weights", tiny_weights, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["frames"], report["skipped"]) == (0, 0, 3)


@pytest.mark.parametrize(
    ("seconds", "workers", "turned"),
    [(5, 2, True), pytest.param(60, 1, False, marks=pytest.mark.slow)],
)
def test_rows_do_not_depend_on_shards_workers_or_order(
    undisturbed, archive, tiny_weights, tmp_path, seconds, workers, turned
):
    sources = sorted(archive.rglob("*.m*"), reverse=turned)
    options = ["--shard-seconds", seconds, "--workers", workers, "--weights", tiny_weights]
    done = run("track", *sources, "--out", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path) == rows(undisturbed[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_one_row_per_frame_on_a_gpu(archive, tiny_weights, tmp_path):
    options = ["--weights", tiny_weights, "--device", "cuda"]
    done = run("track", archive, "--out", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    check_one_row_per_frame(rows(tmp_path), ARCHIVE)


def test_broken_files_are_named_and_stop_nothing(tiny_weights, tmp_path):
    inputs, out = tmp_path / "in", tmp_path / "out"
    make_video(inputs / "good.mp4", 40)
    truncate(make_video(inputs / "cut.mp4", 80, faststart=True), 0.7)
    truncate(make_video(inputs / "headless.mp4", 80), 0.7)
    (inputs / "text.mp4").write_text("I am text")
    (inputs / "empty.mp4").write_bytes(b"")
    (inputs / "notes.csv").write_text("not a video, and not meant to be one")
    command = ("track", inputs, "--out", out, "--weights", tiny_weights)
    done = run(*command)
    assert done.returncode == 3, done.stderr
    last = done.stdout.splitlines()[-5:]
    named = {line.split(":")[1].split("/")[-1] for line in last if "unreadable" in line}
    assert named == {"cut.mp4", "headless.mp4", "text.mp4", "empty.mp4"}
    tables = rows(out)
    assert set(tables) == {"good.mp4", "cut.mp4"}
    status = tables["cut.mp4"]["status"].to_pylist()
    assert 20 < len(status) - status.count("undecodable") < 80
    assert tables["cut.mp4"]["visible"].null_count == status.count("undecodable")
    again = run(*command, "--json")
    assert again.returncode == 3
    assert {q["source"].split("/")[-1] for q in json.loads(again.stdout)["quarantined"]} == named


def test_other_weights_or_settings_never_mix(undisturbed, archive, tiny_weights):
    out, _ = undisturbed
    before = rows(out)
    done = run("track", archive, "--out", out, "--weights", tiny_weights, "--peak", "contour")
    assert done.returncode == 1
    assert "peak: centroid -> contour" in done.stderr
    assert rows(out) == before


def test_two_runs_cannot_write_to_one_folder(undisturbed, archive, tiny_weights):
    from tracknet.schemas.store import Store

    out, _ = undisturbed
    with Store(out).lock():
        done = run("track", archive, "--out", out, "--weights", tiny_weights)
    assert done.returncode == 1
    assert f"process {os.getpid()}" in done.stderr


def test_real_archive(real_data, tiny_weights, tmp_path):
    import av

    videos = sorted((real_data / "unlabelled").glob("Penguin*.mp4"))  # with an edit list
    done = run("track", *videos, "--out", tmp_path, "--weights", tiny_weights)
    assert done.returncode == 0, done.stdout
    expected = {}
    for path in videos:
        with av.open(str(path)) as container:
            expected[path.name] = sum(1 for _ in container.decode(video=0))
    check_one_row_per_frame(rows(tmp_path), expected)


HEATMAP_MODELS = ("v1", "v2", "v3", "v3_attention", "v4", "v5", "v2_mdd", "v2_rstr")


@pytest.mark.slow
@pytest.mark.parametrize("arch", HEATMAP_MODELS)
def test_every_architecture_tracks(tmp_path, arch):
    from tracknet.pipeline.models import build
    from tracknet.pipeline.models.checkpoint import save_model

    torch.manual_seed(0)
    weights = tmp_path / f"{arch}.safetensors"
    config = {"width": 0.125, "input_height": 144, "input_width": 256}
    save_model(build(arch, config).eval(), weights)
    clip = make_video(tmp_path / "clip.mp4", 19)
    done = run("track", clip, "--out", tmp_path / "out", "--weights", weights)
    assert done.returncode == 0, done.stderr
    check_one_row_per_frame(rows(tmp_path / "out"), {"clip.mp4": 19})


def test_inpaintnet_is_refused_as_a_tracker(tmp_path):
    from tracknet.pipeline.models import build
    from tracknet.pipeline.models.checkpoint import save_model

    weights = tmp_path / "inpaintnet.safetensors"
    save_model(build("inpaintnet").eval(), weights)
    clip = make_video(tmp_path / "clip.mp4", 5)
    done = run("track", clip, "--out", tmp_path / "out", "--weights", weights)
    assert done.returncode == 2
    assert "is not a heatmap model" in done.stderr
