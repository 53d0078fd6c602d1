"""Nodes of a cluster: all are used, one that joins, too; one that goes away costs only time."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.runs import check_one_row_per_frame, rows, staged, wait_for
from tests.videos import make_video
from tracknet.jobs.settings import TrackSettings
from tracknet.jobs.sources import find_sources
from tracknet.jobs.status import read_status
from tracknet.jobs.track import track
from tracknet.jobs.workers import Node, share_out
from tracknet.schemas.store import Store

FRAMES = {"a.mp4": 700, "b.mp4": 600, "c.mp4": 500}


NODES = [
    # nodes, on GPUs -> decode workers, models, CPUs of each model
    ([Node(2), Node(2), Node(2)], False, (3, 3, 1)),
    ([Node(1)], False, (1, 1, 1)),
    ([Node(64)], False, (16, 12, 4)),
    ([Node(0), Node(16), Node(16)], False, (8, 6, 4)),
    ([Node(4), Node(16, 2)], True, (16, 4, 1)),
]


@pytest.mark.parametrize(("nodes", "on_gpu", "expected"), NODES)
def test_workers_of_a_cluster(nodes, on_gpu, expected):
    found = share_out(nodes, on_gpu, alone=False)
    assert (found.decode, found.models, found.model_cpus) == expected
    assert (found.most_decode, found.most_models) == (None, None)  # nodes may join
    assert share_out(nodes, on_gpu, alone=False, decode=5).most_decode == 5  # the user's word
    if not on_gpu:
        assert found.threads == found.model_cpus
        fit = sum(node.cpus // found.model_cpus for node in nodes)
        assert found.models <= fit


@pytest.mark.slow
def test_nodes_that_join_and_go_away_change_no_row(tiny_weights, tmp_path):
    for name, frames in FRAMES.items():
        make_video(tmp_path / "in" / name, frames, 320, 180, gop=25)
    sources = find_sources([str(tmp_path / "in")])
    settings = TrackSettings(str(tiny_weights), runtime="torch", shard_seconds=1)
    ray.shutdown()  # the Ray that other tests of this process share
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False)
        whole = track(sources, tmp_path / "whole", settings)
        assert (whole.frames, whole.models) == (sum(FRAMES.values()), 3)

        with ThreadPoolExecutor(1) as pool:  # Ray adds nodes in the main thread only
            running = pool.submit(track, sources, tmp_path / "cut", settings)
            wait_for(lambda: len(staged(tmp_path / "cut")) >= 3)
            cluster.remove_node(nodes[0], allow_graceful=False)
            cluster.add_node(num_cpus=2)
            cut = running.result()
        assert cut.frames == whole.frames
        assert len([node for node in ray.nodes() if node["Alive"]]) == 3
    finally:
        ray.shutdown()
        cluster.shutdown()
    expected, found = rows(tmp_path / "whole"), rows(tmp_path / "cut")
    check_one_row_per_frame(found, FRAMES)
    for name in FRAMES:
        assert found[name].equals(expected[name])
    for out in ("whole", "cut"):
        who = read_status(Store(tmp_path / out)).nodes
        print(out, who)
        for stage in ("decoded", "modelled"):
            assert sum(frames[stage] for frames in who.values()) >= sum(FRAMES.values())
        assert len(who) >= 3
