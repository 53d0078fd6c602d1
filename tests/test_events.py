"""Events: exact on paths whose hits and bounces are known, and the same however a path is cut."""

import csv
import json
from hashlib import sha256
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from safetensors import torch as safetensors_torch

from tracknet.commands.main import cli
from tracknet.pipeline.errors import InputError, LabelError, WeightsError
from tracknet.pipeline.events.find import Event, find_events, peaks
from tracknet.pipeline.events.flight import turn
from tracknet.pipeline.events.labels import (
    BADMINTON_HITS,
    LabelledPath,
    once,
    read_hits,
    read_paths,
)
from tracknet.pipeline.events.model import (
    KINDS,
    SHIPPED,
    centred,
    load_net,
    probabilities,
    save_net,
)
from tracknet.pipeline.events.order import (
    _SERVE,
    _SHARE,
    APART,
    APART_KINDS,
    Peak,
    likeliest,
    same_kind_odds,
)
from tracknet.pipeline.events.rallies import find_rallies
from tracknet.pipeline.events.scoring import EventCounts, count
from tracknet.pipeline.events.training import EventTraining, targets, train
from tracknet.schemas.tables import DERIVED_VERSION

SIZE = (1280, 720)
NAN = np.nan
ODDS = (-2.8, -2.4)  # about those of tennis


@pytest.fixture(autouse=True)
def one_thread():
    """The threads of layers so small would mostly wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def net():
    return load_net("tennis")


def dribble(frames=90, period=13.0, first=5.0, floor=560.0, height=60.0):
    """A ball bounced on the spot: [N, 2] px, and the times of its bounces."""
    t = np.arange(frames)
    phase = ((t - first) / period) % 1
    y = floor - height * 4 * phase * (1 - phase)
    return np.stack([640 + 0.3 * t, y], 1), np.arange(first, frames, period)


def kink(at, before=(6.0, 5.0), behind=(4.0, -7.0), gravity=0.6, frames=24):
    """Two parabolas that meet at a time, at (300, 200)."""
    t = np.arange(frames)[:, None] - at
    return (300, 200) + np.where(t < 0, before, behind) * t + (0, gravity) * t**2


@pytest.mark.parametrize("at", [10.0, 10.3, 11.4, 9.15])
def test_turn_is_where_two_parabolas_meet(at):
    found = turn(kink(at), round(at))
    assert round(at) + found.offset == pytest.approx(at, abs=0.05)
    assert found.xy == pytest.approx((300, 200), abs=0.5)
    assert found.before == pytest.approx(np.hypot(6, 5), abs=0.1)
    assert found.behind == pytest.approx(np.hypot(4, 7), abs=0.1)


def test_turn_bridges_frames_without_a_ball():
    path = kink(10.4)
    path[9:12] = NAN
    assert turn(path, 10).offset == pytest.approx(0.4, abs=0.05)


def test_turn_of_what_is_not_known_is_nan():
    path = np.full((9, 2), NAN)
    assert turn(path, 4).offset == 0
    assert np.isnan([*turn(path, 4).xy, turn(path, 4).before]).all()
    path[4] = 7, 8
    assert turn(path, 4).xy == (7, 8)


def test_bounces_of_a_dribble(net):
    xy, bounces = dribble()
    events = find_events(xy, SIZE, 30.0, net)
    inner = [event for event in events if 10 < event.frame < 80]
    assert {event.kind for event in inner} == {"bounce"}
    times = [event.frame + event.offset for event in inner]
    assert times == pytest.approx(bounces[(bounces > 10) & (bounces < 80)], abs=0.2)
    assert all(event.y_px == pytest.approx(560, abs=5) for event in inner)


def test_the_network_of_the_sport_is_chosen(net):
    xy = dribble()[0]
    assert find_events(xy, SIZE, 30.0) == find_events(xy, SIZE, 30.0, net)
    hits = [(20, 600, 520), (44, 680, 250), (70, 560, 530), (96, 640, 240), (122, 700, 510)]
    shuttle = np.full((130, 2), NAN)
    for (start, *here), (stop, *there) in pairwise(hits):
        part = np.linspace(0, 1, stop - start + 1)[:, None]
        way = np.array(there) - here
        shuttle[start : stop + 1] = here + way * (1 - (1 - part) ** 1.6)
        shuttle[start : stop + 1] -= (0, 440) * part * (1 - part)
    assert {event.kind for event in find_events(shuttle, SIZE, 30.0)} == {"hit"}


def test_a_path_without_a_ball_has_no_events(net):
    assert find_events(np.empty((0, 2)), SIZE, 30.0, net) == []
    assert find_events(np.full((50, 2), NAN), SIZE, 30.0, net) == []
    alone = np.full((50, 2), NAN)
    alone[20] = 100, 100
    assert find_events(alone, SIZE, 30.0, net) == []


def test_what_is_no_path_is_refused(net):
    with pytest.raises(InputError, match=r"\[N, 2\], not \[4, 3\]"):
        find_events(np.zeros((4, 3)), SIZE, 30.0, net)
    with pytest.raises(InputError, match="frames per second"):
        find_events(np.zeros((4, 2)), SIZE, 0.0, net)


def test_parts_of_a_path_do_not_influence_each_other(net):
    first, second = dribble()[0], dribble(70, 11, 3, 300, 40)[0]
    whole = np.concatenate([first, np.full((30, 2), NAN), second])
    events = find_events(whole, SIZE, 30.0, net)
    alone = find_events(first, SIZE, 30.0, net)
    moved = [e._replace(frame=e.frame + 120) for e in find_events(second, SIZE, 30.0, net)]
    assert [e[:2] for e in events] == [e[:2] for e in alone + moved]
    assert [e.score for e in events] == pytest.approx([e.score for e in alone + moved], abs=1e-5)


def test_the_middle_of_a_path_does_not_depend_on_far_ends(net):
    path = centred(dribble(400)[0], SIZE)
    whole, part = probabilities(net, path, 30.0), probabilities(net, path[100:300], 30.0)
    np.testing.assert_allclose(whole[:, 165:235], part[:, 65:135], atol=1e-5)


def test_a_mirrored_rally_has_the_same_events(net):
    xy = dribble()[0]
    mirrored = find_events(np.abs((1279, 0) - xy), SIZE, 30.0, net)
    assert [e[:2] for e in mirrored] == [e[:2] for e in find_events(xy, SIZE, 30.0, net)]


def test_size_of_the_picture_does_not_matter(net):
    xy = dribble()[0]
    half = (xy + 0.5) / 2 - 0.5
    assert [e[:2] for e in find_events(half, (640, 360), 30.0, net)] == [
        e[:2] for e in find_events(xy, SIZE, 30.0, net)
    ]


def test_sixty_frames_per_second_are_two_paths_of_thirty(net):
    xy = dribble()[0]
    slow = probabilities(net, centred(xy, SIZE), 30.0)
    fast = probabilities(net, centred(np.repeat(xy, 2, 0), SIZE), 60.0)
    np.testing.assert_allclose(fast[:, ::2], slow, atol=1e-6)
    np.testing.assert_allclose(fast[:, 1::2], slow, atol=1e-6)


def test_a_repeated_picture_counts_as_unseen(net):
    xy = dribble()[0]
    repeated, gone = xy.copy(), xy.copy()
    repeated[40], gone[40] = xy[39], NAN
    events = find_events(repeated, SIZE, 30.0, net)
    assert events == find_events(gone, SIZE, 30.0, net)


def test_peaks_are_apart():
    found = np.full((2, 40), 1e-9)
    found[0, [10, 12, 13, 30]] = 0.5, 1, 0.9, 1
    found[1, [14, 20]] = 0.9, 1
    wide = targets([(12, "hit"), (20, "bounce")], 40)[1:]
    assert [e[:2] for e in peaks(wide)] == [(12, 0), (20, 1)]
    assert [e[2] for e in peaks(wide)] == pytest.approx([1, 1], abs=0.01)
    assert [e[:2] for e in peaks(found)] == [(12, 0), (20, 1), (30, 0)]
    assert [e[:2] for e in likeliest(peaks(found), 0, (0, 0), 0.35)] == [(12, 0), (20, 1), (30, 0)]
    assert likeliest(peaks(found), 0, (0, 0), 0.99) == []
    assert peaks(np.zeros((2, 0))) == []


def test_new_networks_make_older_results_events_again():
    """Whoever changes a network raises the version, and writes the new digests here."""
    digests = [
        sha256((SHIPPED / f"{n}.safetensors").read_bytes()).hexdigest()[:8]
        for n in ("tennis", "badminton")
    ]
    assert (DERIVED_VERSION, digests) == (3, ["3a61bee7", "83f68d59"])


@pytest.mark.parametrize("first", [0, 17])
@pytest.mark.parametrize("step", [1, 2])
def test_a_hit_counts_in_full_where_the_path_begins(first, step):
    """A shuttle is often seen only from the serve on."""
    around = np.exp(-0.5 * (np.arange(40) / step) ** 2)
    found = np.zeros((2, 60))
    found[:, first : first + 40] = np.maximum(around, 1e-9)
    hit, bounce = sorted(peaks(found, step), key=lambda peak: peak.kind)
    assert hit == (first, 0, pytest.approx(1, abs=0.01))
    assert bounce.score < 0.8
    assert all(peak.score < 0.8 for peak in peaks(found[:, ::-1], step))  # where it ends


@st.composite
def some_peaks(draw):
    frames = sorted(draw(st.lists(st.integers(0, 60), max_size=8)))
    return [
        Peak(frame, draw(st.integers(0, 1)), draw(st.sampled_from([0.1, 0.2, 0.45, 0.6, 0.97])))
        for frame in frames
    ]


def worth(chosen, same_kind):
    """What `likeliest` makes as large as can be, of a sequence; None where it is not allowed."""
    total = sum(np.log(p.score / (1 - p.score)) for p in chosen)
    for before, peak in pairwise(chosen):
        alike = before.kind == peak.kind
        if peak.frame - before.frame <= (APART if alike else APART_KINDS):
            return None
        total += _SHARE * same_kind[peak.kind] * alike
    if chosen and chosen[0].kind == 1 and chosen[0].frame > _SERVE:
        total += _SHARE * same_kind[1]
    return total


@given(some_peaks(), st.tuples(st.sampled_from([0, -1, -3]), st.sampled_from([0, -2])))
def test_no_sequence_is_likelier_than_the_one_chosen(found, same_kind):
    possible = [
        worth(some, same_kind)
        for number in range(len(found) + 1)
        for some in combinations(found, number)
    ]
    best = max(total for total in possible if total is not None)
    assert worth(likeliest(found, 0, same_kind, 0.5), same_kind) == pytest.approx(best)


def test_hits_and_bounces_take_turns():
    def kept(first, *found):
        return [peak.frame for peak in likeliest([Peak(*p) for p in found], first, ODDS, 0.5)]

    hit, bounce = 0, 1
    assert kept(0, (10, bounce, 0.9), (30, hit, 0.3), (50, bounce, 0.9)) == [10, 30, 50]
    assert kept(0, (10, bounce, 0.9), (30, hit, 0.3)) == [10]
    assert kept(0, (10, hit, 0.9), (30, bounce, 0.9), (50, bounce, 0.6)) == [10, 30]
    assert kept(0, (10, hit, 0.9), (30, hit, 0.9), (50, hit, 0.9)) == [10, 30, 50]
    assert kept(0, (50, bounce, 0.6)) == []
    assert kept(45, (50, bounce, 0.6)) == [50]
    assert kept(0, (10, bounce, 1.0), (22, bounce, 1.0), (34, bounce, 1.0)) == [10, 22, 34]


def test_odds_of_two_of_a_kind_are_learnt_from_labels():
    tennis = [[(10 * i, KINDS[i % 2]) for i in range(41)]]
    badminton = [[(10 * i, "hit") for i in range(9)]]
    assert same_kind_odds([tennis]) == pytest.approx([-np.log(21), -np.log(21)])
    assert same_kind_odds([tennis, badminton]) == pytest.approx([0, -np.log(21)])
    assert same_kind_odds([badminton]) == same_kind_odds([]) == [0, 0]
    assert train([labelled()], EventTraining(steps=1)).same_kind[1] == 0


def test_targets_sum_to_one():
    wanted = targets([(3.5, "hit"), (4, "bounce"), (20, "bounce")], 24)
    np.testing.assert_allclose(wanted.sum(0), 1, rtol=1e-6)
    assert wanted[2].argmax() == 20


def test_count_matches_each_label_once():
    assert count([10, 11, 12], [11]) == EventCounts(tp=1, fp=2)
    assert count([8, 14], [11, 17]) == EventCounts(tp=2)
    assert count([], [5]).f1 == 0
    assert count([], []).f1 is None
    assert count([10], [13], tolerance=2) == EventCounts(fp=1, fn=1)


def test_labels_in_frames_that_follow_each_other_are_one_event():
    labels = [(4, "hit"), (5, "hit"), (6, "bounce"), (8, "hit")]
    assert once(labels) == [(4.5, "hit"), (6, "bounce"), (8, "hit")]


def events_at(*times):
    kinds = {"h": "hit", "b": "bounce"}
    return [Event(int(t[1:]), kinds[t[0]], 0, 0, 1, 0, NAN, NAN) for t in times]


def test_rallies_begin_with_a_hit_and_end_with_a_pause():
    events = events_at("b3", "b16", "h40", "b50", "h70", "b80", "b90", "h400", "h430")
    first, second = find_rallies(events, 30.0)
    assert first[:4] == (40, 90, 2, 3)
    assert first.duration_s == pytest.approx(50 / 30)
    assert first.longest_pause_s == pytest.approx(20 / 30)
    assert (first.end, second.end) == ("second bounce", "hit")
    assert second[:4] == (400, 430, 2, 0)
    assert find_rallies([], 30.0) == []
    assert find_rallies(events_at("b3"), 30.0) == []


def test_no_rally_goes_on_behind_a_cut():
    events = events_at("h40", "b50", "h70", "b80")
    assert [r[:2] for r in find_rallies(events, 30.0, cuts=[60])] == [(40, 50), (70, 80)]


def labelled(frames=90):
    xy, bounces = dribble(frames)
    return LabelledPath("g", "c", xy, tuple((float(t), "bounce") for t in bounces))


def test_training_is_repeatable_and_learns():
    settings = EventTraining(steps=40, batch=4, frames=64, averaged=0.8)
    first, second = (train([labelled()], settings) for _ in range(2))
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    found = probabilities(first, centred(labelled().xy, SIZE), 30.0)[1]
    at = [round(frame) for frame, _ in labelled().events[1:-1]]
    assert found[at].mean() > 3 * found.mean()


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(InputError, match="event"):
        train([LabelledPath("g", "c", dribble()[0], ())], EventTraining(steps=1))


def test_weights_come_back_and_others_are_refused(tmp_path, net):
    save_net(net, tmp_path / "copy.safetensors", {})
    copy = load_net(tmp_path / "copy.safetensors")
    for mine, theirs in zip(net.parameters(), copy.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(net.same_kind, copy.same_kind)
    older = {name: value for name, value in net.state_dict().items() if name != "same_kind"}
    (tmp_path / "older.safetensors").write_bytes(safetensors_torch.save(older))
    assert load_net(tmp_path / "older.safetensors").same_kind.tolist() == [0, 0]
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="broken"):
        load_net(tmp_path / "broken.safetensors")
    with pytest.raises(WeightsError, match="missing"):
        load_net(tmp_path / "missing.safetensors")


def write_csv(path, games=("a", "b")):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["game", "clip", "frame", "visibility", "x", "y", "status"])
        xy, bounces = dribble()
        for game in games:
            for frame, (x, y) in enumerate(xy):
                rows.writerow([game, "c", frame + 2, 1, x, y, 2 * (frame in bounces)])
            rows.writerow([game, "c", 93, 0, "", "", ""])
    return path


def test_csv_of_paths(tmp_path):
    first, second = read_paths(write_csv(tmp_path / "paths.csv"), SIZE, 30.0)
    assert (first.game, second.game, first.first, len(first.xy)) == ("a", "b", 2, 92)
    assert first.events[0] == (5, "bounce")
    assert np.isnan(first.xy[-2:]).all()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("frame,x\n1,2\n", "must have the columns"),
        ("game,clip,frame,visibility,x,y,status\na,b,1,1,what,2,0\n", "what"),
        ("game,clip,frame,visibility,x,y,status\na,b,1,1,2,2,7\n", "status 7"),
    ],
)
def test_broken_csv_is_named(tmp_path, text, problem):
    path = tmp_path / "paths.csv"
    path.write_text(text)
    with pytest.raises(LabelError, match=problem):
        read_paths(path, SIZE, 30.0)


def test_hits_of_badminton_clips_are_apart():
    hits = read_hits(BADMINTON_HITS)
    assert sum(map(len, hits.values())) > 200
    for events in hits.values():
        assert np.diff([frame for frame, _ in events]).min() > 4


def test_commands_train_and_score(tmp_path):
    data, out = write_csv(tmp_path / "paths.csv"), tmp_path / "net.safetensors"
    done = CliRunner().invoke(
        cli, ["events", "train", str(data), "--out", str(out), "--steps", "2", "--simulated", "2"]
    )
    assert done.exit_code == 0, done.output
    assert load_net(out)
    arguments = ["events", "score", str(data), "--folds", "2", "--steps", "2", "--json"]
    done = CliRunner().invoke(cli, arguments)
    rows = json.loads(done.stdout)
    sums = [(row["game"], row["kind"], row["within"]) for row in rows[-6:]]
    assert sums == [("all", kind, within) for kind in ("hit", "bounce") for within in (1, 3, 5)]
    assert rows[-1]["labels"] == 14
