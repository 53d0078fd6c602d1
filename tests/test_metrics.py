"""Outcomes, figures, intervals: the paper's tables from their own counts, and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracknet.pipeline.scoring.metrics import (
    FIGURES,
    Counts,
    Outcome,
    bootstrap_interval,
    breakdown,
    outcomes,
    predictions_in_model_space,
    score_clip,
    threshold_sweep,
    truth_in_model_space,
)

NOTHING = (np.nan, np.nan)
SOURCE, MODEL = (1280, 720), (512, 288)

# Paper tables 1, 2, 4 and 5: accuracy, precision, recall, F1, total, TP, FP1, FP2, TN, FN.
PAPER_ROWS = {
    "1, 4, 5: V2": (0.9396, 0.9919, 0.9446, 0.9677, 17682, 15988, 108, 23, 626, 937),
    "1, 4: V4": (0.9224, 0.9965, 0.9225, 0.9581, 17682, 15669, 47, 8, 641, 1317),
    "1: V5": (0.9733, 0.9923, 0.9797, 0.9859, 17682, 16573, 116, 13, 636, 344),
    "2: V2": (0.9542, 0.9947, 0.9584, 0.9762, 11313, 10615, 54, 3, 180, 461),
    "2: V4": (0.9484, 0.9943, 0.9528, 0.9731, 11313, 10555, 52, 9, 174, 523),
    "2: V5": (0.9763, 0.9925, 0.9832, 0.9878, 11313, 10864, 80, 2, 181, 186),
    "4: V2 + MDD": (0.9428, 0.9907, 0.9491, 0.9695, 17682, 16047, 125, 25, 624, 861),
    "5: V2 + R-STR": (0.9745, 0.9885, 0.9848, 0.9866, 17682, 16607, 169, 25, 624, 257),
}
# The paper prints 17209 / 17682 = 0.973250 as 0.9733, so half a unit of the last place is not
# quite enough.
ROUNDING = 5.1e-5

positions = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 20), st.just(2)), elements=st.floats(0, 50)
)
counts = st.builds(Counts, *[st.integers(0, 50)] * 5)


@pytest.mark.parametrize("row", PAPER_ROWS.values(), ids=PAPER_ROWS.keys())
def test_papers_tables_follow_from_their_counts(row: tuple[float, ...]) -> None:
    *printed, total, tp, fp1, fp2, tn, fn = row
    table = Counts(int(tp), int(fp1), int(fp2), int(tn), int(fn))
    assert table.total == total
    for name, value in zip(FIGURES, printed, strict=True):
        assert table.figure(name) == pytest.approx(value, abs=ROUNDING)


def test_every_outcome() -> None:
    predicted = np.array([(10, 10), (10, 10), (10, 10), NOTHING, NOTHING])
    truth = np.array([(13, 10), (14, 10), NOTHING, NOTHING, (10, 10)])
    judged, distance = outcomes(predicted, truth, tolerance=4.0)
    assert [Outcome(code).name for code in judged] == ["TP", "FP1", "FP2", "TN", "FN"]
    np.testing.assert_array_equal(distance, [3, 4, np.nan, np.nan, np.nan])
    assert Counts.of(judged) == Counts(1, 1, 1, 1, 1)


def test_undefined_figures_are_none() -> None:
    assert [Counts().figure(name) for name in FIGURES] == [None] * 4
    assert [Counts(tn=5).figure(name) for name in FIGURES] == [1.0, None, None, None]
    assert Counts(fp2=1, fn=1).f1 == 0
    with pytest.raises(ValueError, match="none of"):
        Counts().figure("tp")


def test_ten_source_pixels_are_four_model_pixels() -> None:
    truth = np.array([(640.0, 360.0)])
    for off, space, expected in [
        (9.0, "model", Outcome.TP),
        (11.0, "model", Outcome.FP1),
        (9.0, "source", Outcome.FP1),
        (3.0, "source", Outcome.TP),
    ]:
        judged, _ = score_clip(
            truth + np.array((off, 0.0)), truth, space=space, source_size=SOURCE, model_size=MODEL
        )
        assert judged[0] == expected, (off, space)


def test_exactly_the_tolerance_survives_the_way_through_float32_source_pixels() -> None:
    truth = np.array([(640.0, 360.0)])  # (256, 144) at model size
    peak = np.array([(260.0, 144.0)])  # exactly 4 px away: no hit
    predicted = ((peak + 0.5) * 2.5 - 0.5).astype(np.float32)
    judged, distance = score_clip(predicted, truth, source_size=SOURCE, model_size=MODEL)
    assert distance[0] == 4.0
    assert judged[0] == Outcome.FP1


def test_ground_truth_is_truncated_and_predictions_are_not() -> None:
    assert truth_in_model_space(np.array([(1279.0, 1.0)]), SOURCE, MODEL).tolist() == [[511, 0]]
    moved = predictions_in_model_space(np.array([(1.0, 1.0)]), SOURCE, MODEL)
    assert moved.tolist() == [[0.1, 0.1]]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="two arrays"):
        outcomes(np.zeros((3, 2)), np.zeros((2, 2)), 4.0)
    with pytest.raises(ValueError, match="keys"):
        breakdown(np.zeros(3, np.int8), ["a"])


@given(positions, st.floats(0.1, 10))
def test_predicting_the_truth_is_perfect(truth: np.ndarray, tolerance: float) -> None:
    judged, _ = outcomes(truth, truth, tolerance)
    assert Counts.of(judged) == Counts(tp=len(truth))


@given(positions, st.floats(0.5, 10), st.integers(0, 2**31))
def test_outcomes_partition_the_frames(truth: np.ndarray, tolerance: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted = truth + rng.normal(0, 5, truth.shape)
    predicted[rng.random(len(truth)) < 0.3] = np.nan
    truth = np.where(rng.random((len(truth), 1)) < 0.3, np.nan, truth)
    judged, distance = outcomes(predicted, truth, tolerance)
    total = Counts.of(judged)
    assert total.total == len(truth)
    assert total.tp + total.fp1 + total.fn == (~np.isnan(truth[:, 0])).sum()
    assert total.tp + total.fp1 + total.fp2 == (~np.isnan(predicted[:, 0])).sum()
    assert (distance[judged == Outcome.TP] < tolerance).all()
    wider, _ = outcomes(predicted, truth, tolerance * 2)
    assert Counts.of(wider).tp >= total.tp


@given(st.lists(counts, min_size=1, max_size=6))
def test_breakdown_adds_up(parts: list[Counts]) -> None:
    judged = np.concatenate(
        [np.repeat(range(5), [c.tp, c.fp1, c.fp2, c.tn, c.fn]) for c in parts]
    ).astype(np.int8)
    keys = [i for i, part in enumerate(parts) for _ in range(part.total)]
    pieces = breakdown(judged, keys)
    assert all(pieces.get(i, Counts()) == part for i, part in enumerate(parts))
    assert sum(pieces.values(), Counts()) == Counts.of(judged)


@given(counts)
def test_figures_lie_between_zero_and_one(table: Counts) -> None:
    values = [table.figure(name) for name in FIGURES]
    assert all(value is None or 0 <= value <= 1 for value in values)
    if table.precision and table.recall:
        harmonic = 2 / (1 / table.precision + 1 / table.recall)
        assert table.f1 == pytest.approx(harmonic)


def test_interval_is_seeded_holds_the_figure_and_resamples_clips() -> None:
    clips = [Counts(tp=900 + i * i * 7 % 97, fp1=i * 13 % 31, fn=10 + i) for i in range(10)]
    interval = bootstrap_interval(clips)
    assert interval is not None
    assert interval == bootstrap_interval(clips)
    assert interval != bootstrap_interval(clips, seed=1)
    whole = sum(clips, Counts()).f1
    assert whole is not None
    assert interval[0] < whole < interval[1]
    same = bootstrap_interval([clips[0]] * 10)
    assert same is not None
    assert same[0] == same[1] == clips[0].f1


@pytest.mark.parametrize("figure", FIGURES)
def test_interval_is_that_of_figures_of_resampled_clips(figure: str) -> None:
    clips = [Counts(tn=2), Counts(tp=2, fp1=1, fn=3), Counts(tp=4, fp2=5, tn=1, fn=6)]
    draws = np.random.default_rng(3).integers(3, size=(200, 3))
    totals = [sum((clips[i] for i in draw), Counts()) for draw in draws]
    values = [value for one in totals if (value := one.figure(figure)) is not None]
    assert len(values) < 200 or figure == "accuracy"  # some resamples have no such figure
    expected = np.quantile(values, [0.05, 0.95])
    found = bootstrap_interval(clips, figure, level=0.9, resamples=200, seed=3)
    assert found == tuple(expected)


def test_no_interval_without_clips_or_figure() -> None:
    assert bootstrap_interval([Counts(tp=1)]) is None
    assert bootstrap_interval([Counts(tn=1), Counts(tn=2)]) is None


def test_threshold_sweep_equals_judging_again() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (200, 2))
    truth[::5] = np.nan
    predicted = np.nan_to_num(truth, nan=50) + rng.normal(0, 4, truth.shape)
    scores = rng.uniform(size=200)
    judged, _ = outcomes(predicted, truth, 4.0)
    sweep = threshold_sweep(judged, scores, [0.0, 0.3, 0.9, 1.1])
    for threshold, table in sweep.items():
        kept = np.where(scores[:, None] >= threshold, predicted, np.nan)
        assert table == Counts.of(outcomes(kept, truth, 4.0)[0])
    assert sweep[1.1].tp == 0
    assert threshold_sweep(judged, np.full(200, np.nan), [0.9])[0.9] == Counts.of(judged)
