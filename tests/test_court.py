"""The court: places in metres and km/h against flights that are known."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracknet.pipeline.errors import InputError
from tracknet.pipeline.events.court import fit_court
from tracknet.pipeline.events.find import Event
from tracknet.pipeline.events.places import Place, places
from tracknet.pipeline.events.speed import fly_back, speed_at_hit
from tracknet.pipeline.events.standards import STANDARDS
from tracknet.pipeline.synth.camera import place_camera
from tracknet.pipeline.synth.rally import GRAVITY, SPORTS

SIZE = (1280, 720)
FPS = 30.0
CORNERS = {"near-left": (218, 598), "near-right": (1069, 594),
           "far-left": (426, 220), "far-right": (848, 219)}  # fmt: skip
T = {"near-T": (640, 453), "far-T": (637, 268)}
COURT = {"video": "*", "sport": "tennis", "size": list(SIZE), "points": CORNERS | T}
EIGHT = (*CORNERS, *T, "near-left-service", "near-right-service")


def seen_by(camera, names=EIGHT, rng=None, noise=0.0, sport="tennis"):
    """Where a camera sees landmarks, as a person who clicks on them would say."""
    rng = rng or np.random.default_rng(0)
    marks = STANDARDS[sport].landmarks
    places = {name: camera.project(np.array([*marks[name], 0.0]))[:2] for name in names}
    return {name: tuple(xy + noise * rng.normal(size=2)) for name, xy in places.items()}


# ---- the homography ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (dict(list(CORNERS.items())[:3]), "needs four or more"),
        (CORNERS | {"nearleft": (1, 1)}, "'nearleft' is no landmark of tennis"),
        (CORNERS | {"near-T": (640, 720)}, "near-T at 640,720 lies outside of the picture"),
        (CORNERS | {"near-T": (-3, 453)}, "outside"),
        (CORNERS | {"near-T": (float("nan"), 453)}, "outside"),
        (CORNERS | T | {"near-left-service": (387, 520), "near-right-service": (897, 451)},
         "most off is near-left-service"),
        ({"near-left": (218, 598), "near-right": (1069, 594), "near-centre": (640, 596),
          "far-left": (426, 220)}, "three points lie in a line"),
        (dict.fromkeys(CORNERS, (5, 5)), "three points lie in a line"),
        ({"near-left": (1069, 594), "near-right": (218, 598), "far-left": (848, 219),
          "far-right": (426, 220)}, "left and right are swapped"),
        ({"near-left": (218, 598), "near-right": (426, 220), "far-left": (1069, 594),
          "far-right": (848, 219)}, "left and right are swapped"),
        ({"near-left": (218, 598), "near-right": (848, 219), "far-left": (426, 220),
          "far-right": (1069, 594)}, "do not make a court"),
    ],
)  # fmt: skip
def test_points_that_make_no_court(points, message):
    with pytest.raises(InputError, match=message):
        fit_court("tennis", points, SIZE)


def test_unknown_sport():
    with pytest.raises(InputError, match="known are tennis, tennis-singles, badminton"):
        fit_court("chess", CORNERS, SIZE)


def test_errors_are_those_of_the_points():
    assert fit_court("tennis", CORNERS, SIZE).rms_px == pytest.approx(0, abs=1e-3)
    court = fit_court("tennis", CORNERS | T, SIZE)
    assert 0.3 < court.rms_px < 3
    assert 0.01 < court.rms_m < 0.2
    assert court.errors_px.keys() == (CORNERS | T).keys()


@pytest.mark.parametrize("sport", STANDARDS)
def test_standard_courts_are_symmetric(sport):
    standard = STANDARDS[sport]
    marks = set(standard.landmarks.values())
    assert len(marks) == len(standard.landmarks)
    assert {(-x + 0.0, y) for x, y in marks} == {(x, -y + 0.0) for x, y in marks} == marks
    ends = {point for line in standard.lines for point in line}
    assert (standard.half_width, standard.half_length) in marks & ends


@given(seed=st.integers(0, 2**32 - 1), x=st.floats(-6, 6), y=st.floats(-12, 12))
def test_there_and_back(seed, x, y):
    camera = place_camera(np.random.default_rng(seed), SPORTS["tennis"], *SIZE)
    court = fit_court("tennis", seen_by(camera), SIZE)
    there = court.to_px(np.array([[x, y]]))
    assert there[0] == pytest.approx(camera.project(np.array([x, y, 0.0]))[:2], abs=1e-3)
    assert court.to_metres(there)[0] == pytest.approx((x, y), abs=1e-6)


def test_the_camera_is_found_where_its_axis_meets_the_middle():
    made = place_camera(np.random.default_rng(3), SPORTS["tennis"], *SIZE)
    camera = type(made)(made.y, made.z, made.pitch, made.focal, 639.5, 359.5)
    court = fit_court("tennis", seen_by(camera), SIZE)
    ball = np.array([[1.0, -2.0, 1.5], [-3.0, 8.0, 0.7]])
    assert court.to_px(ball) == pytest.approx(camera.project(ball)[:, :2], abs=0.01)
    above = court.to_metres(camera.project(ball)[:1, :2], height=1.5)
    assert above[0] == pytest.approx((1.0, -2.0), abs=1e-3)


def test_a_camera_that_looks_straight_down_gives_metres_but_no_speed():
    marks = STANDARDS["tennis"].landmarks
    points = {name: (640 + 20 * marks[name][0], 360 - 20 * marks[name][1]) for name in EIGHT}
    court = fit_court("tennis", points, SIZE)
    assert court.camera is None
    assert court.to_metres(np.array([[660.0, 340.0]]), 0.03)[0] == pytest.approx((1, 1), abs=1e-6)
    path, times = np.ones((20, 2)), np.arange(-21, 0) / FPS
    assert speed_at_hit(court, path, times, (660, 340), 1280) is None


def test_what_lies_above_the_horizon_has_no_place():
    court = fit_court("tennis", CORNERS, SIZE)
    assert np.isnan(court.to_metres(np.array([[640.0, -500.0]]))).all()
    bounce = Event(5, "bounce", 640.0, -500.0, 0.9, 0.0, 1.0, 1.0)
    assert places([bounce], np.full((9, 2), np.nan), 1280, FPS, lambda _: court) == [Place()]


# ---- flights ----------------------------------------------------------------------------------


def flight(at, velocity, lift=0.0, drag=0.02, radius=0.033, dt=1 / 600):
    """A ball with drag and topspin (`lift` 1/m) until it bounces: [N, 3] m, `dt` s apart."""
    places, place, v = [], np.array(at), np.array(velocity)
    axis = np.cross([0.0, 0.0, 1.0], [*velocity[:2], 0.0]) / np.hypot(*velocity[:2])
    while place[2] > radius:
        places.append(place)
        speed = np.linalg.norm(v)
        pull = -drag * speed * v + lift * speed * np.cross(axis, v)
        step = dt * (pull - (0, 0, GRAVITY))
        place = place + dt * (v + step / 2)
        v = v + step
    return np.array(places), dt


def measure(rng, lift, noise=1.0, clicks=1.0, shots=120):
    """Errors of bounces in m and of speeds as shares, and how many speeds are known."""
    off, wrong, tried = [], [], 0
    while tried < shots:
        camera = place_camera(rng, SPORTS["tennis"], *SIZE)
        court = fit_court("tennis", seen_by(camera, rng=rng, noise=clicks), SIZE)
        side = rng.choice([-1, 1])
        serve = rng.random() < 0.25
        at = (rng.uniform(-4, 4), side * 11.9, 2.8 if serve else rng.uniform(0.4, 1.4))
        goal = np.array(
            [rng.uniform(-4, 4), -side * (rng.uniform(4, 6) if serve else rng.uniform(5, 11.5))]
        )
        level = (rng.uniform(35, 58) if serve else rng.uniform(17, 32)) * (goal - at[:2])
        level /= np.linalg.norm(goal - at[:2])
        velocity = np.array([*level, -2.0 if serve else rng.uniform(2.0, 7.0)])
        flown, dt = flight(at, velocity, lift)
        if not abs(flown[-1, 1]) < 14 or np.sign(flown[-1, 1]) == side:
            continue
        tried += 1
        xy = camera.project(flown)[:, :2]
        # Frames fall anywhere, and of hit and bounce a fifth of a frame is known.
        step = round(1 / FPS / dt)
        frames = np.arange(rng.integers(step) + step, len(flown) - step // 2, step)
        path = xy[frames] + noise * rng.normal(size=(len(frames), 2))
        times = (np.array([0, *frames]) - len(flown)) * dt + rng.normal() * 0.2 / FPS
        times[0] += rng.normal() * 0.2 / FPS
        bounce = xy[-1] + noise * rng.normal(size=2)
        off.append(np.linalg.norm(court.to_metres(bounce[None], 0.033)[0] - flown[-1, :2]))
        found = speed_at_hit(court, path, np.minimum(times, -1e-6), tuple(bounce), SIZE[0])
        if found is not None:
            wrong.append(found / np.linalg.norm(velocity) / 3.6 - 1)
    return np.array(off), np.array(wrong), len(wrong) / tried


def test_fly_back_is_the_flight_reversed():
    flown, dt = flight((1.0, -11.0, 1.0), (2.0, 30.0, 4.0))
    end, velocity = flown[-1], (flown[-1] - flown[-2]) / dt
    times = -np.array([0.1, 0.5, 0.8])
    was, speed = fly_back(end, np.array([[*velocity, 0.0, 0.0]]), times, 0.02)
    index = np.round(len(flown) - 1 + times / dt).astype(int)
    assert was[0] == pytest.approx(flown[index], abs=0.02)
    assert np.linalg.norm(speed[0], axis=1)[2] > np.linalg.norm(velocity)


@pytest.mark.slow
@pytest.mark.parametrize(("lift", "typical", "worst"), [(0.0, 0.05, 0.18), (0.008, 0.07, 0.22)])
def test_metres_and_speeds_of_known_flights(lift, typical, worst):
    """`python -m tests.test_court` prints the figures that the docs have."""
    off, wrong, known = measure(np.random.default_rng(1), lift, shots=120)
    assert np.median(off) < 0.1
    assert np.quantile(off, 0.9) < 0.3
    assert np.median(np.abs(wrong)) < typical
    assert np.quantile(np.abs(wrong), 0.9) < worst
    assert known > 0.5


def test_a_path_that_is_no_flight_has_no_speed():
    court = fit_court("tennis", CORNERS | T, SIZE)
    rng = np.random.default_rng(0)
    times = np.arange(-21, 0) / FPS
    noise = rng.uniform((0, 0), SIZE, (20, 2))
    assert speed_at_hit(court, noise, times, (640, 500), 1280) is None
    assert speed_at_hit(court, noise[:4], times[-5:], (640, 500), 1280) is None
    still = np.tile((640.0, 500.0), (20, 1))
    assert speed_at_hit(court, still, times, (640, 500), 1280) is None


def test_only_bounces_have_places_and_only_hits_before_them_speeds():
    court = fit_court("tennis", CORNERS | T, SIZE)
    kinds = ["hit", "hit", "bounce", "bounce", "hit"]
    events = [Event(10 * i, kind, 640.0, 500.0, 0.9, 0.0, 1.0, 1.0) for i, kind in enumerate(kinds)]
    found = places(events, np.full((60, 2), np.nan), 1280, FPS, lambda _: court)
    assert [place.x_m is not None for place in found] == [k == "bounce" for k in kinds]
    assert [place.in_court for place in found] == [None, None, True, True, None]
    assert {place.speed_kmh for place in found} == {None}
    shots = places(events, np.full((60, 2), np.nan), 1280, FPS, {20: court}.get)
    assert [place.x_m is not None for place in shots] == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("sport", "x", "inside"),
    [("tennis", 5.5, True), ("tennis", 5.6, False), ("tennis-singles", 5.0, False),
     ("tennis-singles", 4.14, True), ("tennis", 15.0, None)],
)  # fmt: skip
def test_in_is_what_touches_a_line(sport, x, inside):
    camera = place_camera(np.random.default_rng(3), SPORTS["tennis"], *SIZE)
    court = fit_court(sport, seen_by(camera), SIZE)
    px = court.to_px(np.array([[x, -5.0]]))[0] if court.camera is None else court.to_px(
        np.array([[x, -5.0, 0.033]]))[0]  # fmt: skip
    bounce = Event(5, "bounce", *px, 0.9, 0.0, 1.0, 1.0)
    assert (
        places([bounce], np.full((9, 2), np.nan), 1280, FPS, lambda _: court)[0].in_court is inside
    )


# ---- real clips -------------------------------------------------------------------------------

# Read off frame 5 of a clip of each game by looking at it.
REAL = {
    "game6": CORNERS | T | {"near-left-service": (387, 455), "far-right-service": (814, 267)},
    "game7": {"near-left": (127, 569), "near-right": (1148, 571), "far-left": (346, 132),
              "far-right": (937, 132), "near-T": (640, 419), "far-T": (641, 198)},
    "game8": {"near-left": (205, 606), "near-right": (1076, 603), "far-left": (380, 241),
              "far-right": (897, 240), "near-T": (639, 480), "far-T": (638, 296)},
}  # fmt: skip


def real_bounces(path):
    """Labelled bounces in metres, by game; the camera is the same in all clips of one."""
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "2.0"]
    found = {}
    for game, points in REAL.items():
        court = fit_court("tennis-singles", points, SIZE)
        xy = [(float(r["x"]), float(r["y"])) for r in rows
              if r["game"] == game and int(r["visibility"])]  # fmt: skip
        found[game] = court.to_metres(np.array(xy), 0.033)
    return found


@pytest.mark.parametrize("game", REAL)
def test_labelled_bounces_of_real_clips_lie_in_the_court_or_near(real_data, game):
    at = real_bounces(real_data / "tennis_trajectories.csv")[game]
    assert len(at) >= 50
    near = (np.abs(at[:, 0]) < 4.115 + 1.0) & (np.abs(at[:, 1]) < 11.885 + 1.0)
    assert near.mean() >= 0.9, at


if __name__ == "__main__":
    for spin in (0.0, 0.004, 0.008):
        off, wrong, known = measure(np.random.default_rng(1), spin, shots=200)
        print(
            f"lift {spin}: bounces {np.median(off):.2f} m, nine in ten {np.quantile(off, 0.9):.2f}"
            f" m; km/h known {known:.2f}, off {np.median(np.abs(wrong)):.3f}, nine in ten "
            f"{np.quantile(np.abs(wrong), 0.9):.3f}, on average {np.mean(wrong):+.3f}"
        )
