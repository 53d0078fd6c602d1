"""Three nodes on this machine: all are used, and one that goes away costs nothing but time."""

import threading

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.runs import check_one_row_per_frame, rows, staged, wait_for
from tests.videos import make_video
from tracknet.jobs import INSIDE_JOB
from tracknet.jobs.settings import TrackSettings
from tracknet.jobs.sources import find_sources
from tracknet.jobs.track import track

FRAMES = {"a.mp4": 700, "b.mp4": 600, "c.mp4": 500}


@pytest.mark.slow
def test_a_node_that_goes_away_takes_no_row_with_it(tiny_weights, tmp_path, monkeypatch):
    for name, frames in FRAMES.items():
        make_video(tmp_path / "in" / name, frames, 320, 180, gop=25)
    sources = find_sources([str(tmp_path / "in")])
    settings = TrackSettings(str(tiny_weights), runtime="torch", shard_seconds=1, workers=3)
    assert not ray.is_initialized()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False)
        monkeypatch.setenv(INSIDE_JOB, "1")
        whole = track(sources, tmp_path / "whole", settings)
        assert (whole.frames, whole.models) == (sum(FRAMES.values()), 3)  # one on each node

        def kill():
            wait_for(lambda: len(staged(tmp_path / "cut")) >= 3)
            cluster.remove_node(nodes[0], allow_graceful=False)

        killer = threading.Thread(target=kill)
        killer.start()
        cut = track(sources, tmp_path / "cut", settings)
        killer.join()
        assert cut.frames == whole.frames
        assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    finally:
        ray.shutdown()
        cluster.shutdown()
    expected, found = rows(tmp_path / "whole"), rows(tmp_path / "cut")
    check_one_row_per_frame(found, FRAMES)
    for name in FRAMES:
        assert found[name].equals(expected[name])
