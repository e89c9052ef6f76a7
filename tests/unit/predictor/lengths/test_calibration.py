import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest, LengthQuantiles
from forebay.predictor.lengths.calibration import Calibration
from forebay.predictor.lengths.scores import Scores

RAW = LengthQuantiles(10, 100, 150, 200)
WINDOW = 500


def query(application: str = "", model: str = "m", tokens_max: int = 0) -> InferenceRequest:
    return InferenceRequest("q", model, 10, application=application, tokens_max=tokens_max)


def calibration(count_min: int = 30, alpha: float = 0.1) -> Calibration:
    return Calibration(WINDOW, alpha, count_min)


def scores(values: Iterable[float], count_max: int = WINDOW) -> Scores:
    found = Scores(count_max, 0.1)
    for value in values:
        found.add(value, False)
    return found


def test_of_five_hundred_scores_the_451st_is_added() -> None:
    assert scores(np.random.default_rng(1).permutation(500)).shift == 450


@pytest.mark.parametrize(("count", "rank"), [(9, 9), (10, 10), (19, 18), (99, 90), (100, 91)])
def test_the_rank_is_that_of_a_finite_sample(count: int, rank: int) -> None:
    assert math.ceil(0.9 * (count + 1) - 1e-9) == rank
    assert scores(range(1, count + 1)).shift == rank


def test_the_oldest_scores_give_way() -> None:
    assert scores([1e6] * 50 + list(range(100)), 100).shift == scores(range(100)).shift


def test_an_answer_that_was_cut_counts_up_to_its_cut() -> None:
    cut, whole = Scores(WINDOW, 0.1), scores(range(90))
    for value in range(90):
        cut.add(value, False)
    for _ in range(100):
        cut.add(-5.0, True)
    assert cut.shift == whole.shift, "cut before all others: it says nothing"
    for _ in range(10):
        cut.add(70.5, True)
    assert cut.shift > whole.shift, "each may have gone on beyond all others"
    assert cut.count == 90


def test_where_most_were_cut_the_longest_stands() -> None:
    found = scores(range(10))
    for value in range(100):
        found.add(3.0 + value, True)
    assert found.shift == 102


def test_the_bound_moves_by_the_root_of_the_spread_and_p97_with_it() -> None:
    found = calibration()
    for number in range(100):
        found.learn(LengthOutcome(query(), 150 + number), RAW)
    assert found.bounded(query(), RAW) == LengthQuantiles(10, 100, 240, 290)
    four_times_as_wide = LengthQuantiles(0, 1_000, 1_200, 1_300)
    assert found.bounded(query(), four_times_as_wide) == LengthQuantiles(0, 1_000, 1_280, 1_380)


def test_a_bound_that_is_too_careful_comes_down_but_never_below_the_median() -> None:
    found = calibration()
    for _ in range(100):
        found.learn(LengthOutcome(query(), 120), RAW)
        found.learn(LengthOutcome(query(model="short"), 3), RAW)
    assert found.bounded(query(), RAW) == LengthQuantiles(10, 100, 120, 170)
    assert found.bounded(query(model="short"), RAW) == LengthQuantiles(10, 100, 100, 100)


def test_the_narrowest_key_that_knows_enough_speaks() -> None:
    found = calibration()
    for number in range(100):
        found.learn(LengthOutcome(query("chat"), 150), RAW)
        found.learn(LengthOutcome(query("code", "other"), 400), RAW)
        if number < 29:
            found.learn(LengthOutcome(query("poems"), 900), RAW)
    assert found.bounded(query("chat"), RAW).p90 == 150
    assert found.bounded(query("poems"), RAW).p90 == 900, (
        "too few of its own: the model's, of which one in five is long"
    )
    assert found.bounded(query("new"), RAW).p90 == 900
    assert found.bounded(query("new", "newest"), RAW).p90 == 900
    assert found.bounded(query("any", "other"), RAW).p90 == 400


def test_before_enough_is_known_the_predictor_s_own_bound_stands() -> None:
    found = calibration()
    for _ in range(8):
        found.learn(LengthOutcome(query(), 900), RAW)
    assert found.bounded(query(), RAW) == RAW
    for _ in range(100):
        found.learn(LengthOutcome(query(), 900, censored=True), RAW)
    assert found.bounded(query(), RAW) == RAW, "answers that were cut tell no bound alone"
    found.learn(LengthOutcome(query("new", "newest"), 100), RAW)
    assert found.bounded(query("any", "other"), RAW).p90 == 900, "of nine the rank is the ninth"


def test_a_bound_that_is_the_limit_stays_and_teaches_nothing() -> None:
    found = calibration()
    for _ in range(100):
        found.learn(LengthOutcome(query(tokens_max=150), 150, censored=True), RAW.capped(150))
        found.learn(LengthOutcome(query(tokens_max=150), 3), RAW.capped(150))
    assert found.bounded(query(), RAW) == RAW
    for _ in range(100):
        found.learn(LengthOutcome(query(), 400), RAW)
    assert found.bounded(query(tokens_max=150), RAW.capped(150)) == RAW.capped(150)
    assert found.bounded(query(tokens_max=300), RAW).p97 == 300


def test_keys_are_bounded() -> None:
    found = calibration(count_min=9)
    for number in range(1_500):
        for _ in range(9):
            found.learn(LengthOutcome(query(model=f"m{number}"), 300), RAW)
    assert len(found._windows) <= 1_000


TOKENS = st.integers(0, 2_000)
QUANTILES = st.lists(TOKENS, min_size=4, max_size=4).map(lambda values: LengthQuantiles(*sorted(values)))


@given(st.lists(st.tuples(QUANTILES, TOKENS, st.booleans(), st.integers(0, 2_500)), max_size=60), st.data())
def test_quantiles_never_decrease_nor_exceed_the_limit(
    seen: list[tuple[LengthQuantiles, int, bool, int]], data: st.DataObject
) -> None:
    found = Calibration(20, 0.1, 9)
    for raw, tokens, is_cut, limit in seen:
        one = query(tokens_max=limit)
        found.learn(LengthOutcome(one, tokens, is_cut), raw.capped(limit))
        asked = data.draw(QUANTILES).capped(limit)
        bounded = found.bounded(one, asked)
        assert 0 <= bounded.p10 <= bounded.p50 <= bounded.p90 <= bounded.p97
        assert limit == 0 or bounded.p97 <= limit
        assert (bounded.p10, bounded.p50) == (asked.p10, asked.p50)


def coverage(truth: Iterable[tuple[LengthQuantiles, int]], found: Calibration | None = None) -> list[bool]:
    """Predict first, learn after: whether each answer was within the bound that was promised before it came."""
    found = found or calibration()
    held = []
    for raw, tokens in truth:
        held.append(tokens <= found.bounded(query("chat"), raw).p90)
        found.learn(LengthOutcome(query("chat"), tokens), raw)
    return held


def stream(seed: int, count: int, scale: float = 1.0) -> list[tuple[LengthQuantiles, int]]:
    """Lognormal answers and a predictor that is too sure of itself and off in scale."""
    random = np.random.default_rng(seed)
    medians = random.lognormal(5, 1, count)
    answers = scale * medians * random.lognormal(0, 0.5, count)
    pairs = zip(medians.tolist(), answers.tolist(), strict=True)
    return [
        (LengthQuantiles(*(round(median * part) for part in (0.5, 0.9, 1.1, 1.2))), round(tokens))
        for median, tokens in pairs
    ]


@pytest.mark.parametrize("seed", range(5))
def test_on_exchangeable_streams_the_bound_holds_as_often_as_it_says(seed: int) -> None:
    held = coverage(stream(seed, 10_000))
    assert 0.89 <= np.mean(held[WINDOW:]) <= 0.91


def thirds(truth: list[tuple[LengthQuantiles, int]], held: list[bool]) -> list[float]:
    """Coverage of the short, middle and long predictions, without the first window."""
    order = np.argsort([raw.p50 for raw, _ in truth[WINDOW:]], kind="stable")
    return [float(np.array(held[WINDOW:])[part].mean()) for part in np.array_split(order, 3)]


def tilted(seed: int, count: int) -> list[tuple[LengthQuantiles, int]]:
    """A predictor whose spreads are far too narrow for short answers and far too wide for long ones."""
    random = np.random.default_rng(seed)
    medians = random.uniform(20, 400, count)
    answers = medians + random.normal(0, 30, count)
    pairs = zip(medians.tolist(), answers.tolist(), strict=True)
    return [
        (LengthQuantiles(*(round(median * part) for part in (0.5, 1.0, 1.4, 1.6))), max(0, round(tokens)))
        for median, tokens in pairs
    ]


@pytest.mark.parametrize("make", [stream, tilted])
@pytest.mark.parametrize("seed", range(3))
def test_short_and_long_predictions_are_covered_alike(
    seed: int, make: Callable[[int, int], list[tuple[LengthQuantiles, int]]]
) -> None:
    truth = make(seed, 10_000)
    held = coverage(truth)
    assert 0.89 <= np.mean(held[WINDOW:]) <= 0.91
    assert all(0.875 <= share <= 0.925 for share in thirds(truth, held)), thirds(truth, held)


def test_bounds_that_know_where_they_are_too_wide_need_less_room() -> None:
    truth = tilted(1, 4_000)
    found, room = calibration(), 0
    for raw, tokens in truth:
        room += found.bounded(query(), raw).p90
        found.learn(LengthOutcome(query(), tokens), raw)
    least = sum(raw.p50 + 1.2816 * 30 for raw, _ in truth)
    assert 0.99 * least < room < 1.03 * least


def test_a_drift_of_the_long_ones_alone_leaves_the_short_ones_where_they_were() -> None:
    random = np.random.default_rng(3)
    found, rooms = calibration(), []
    short, long = LengthQuantiles(10, 50, 80, 90), LengthQuantiles(200, 400, 500, 600)
    for scale in (1, 3):
        for _ in range(2 * WINDOW):
            found.learn(LengthOutcome(query(), round(50 + random.uniform(0, 30))), short)
            found.learn(LengthOutcome(query(), round(400 + scale * random.uniform(0, 100))), long)
        rooms.append((found.bounded(query(), short).p90, found.bounded(query(), long).p90))
    assert abs(rooms[1][0] - rooms[0][0]) <= 8
    assert rooms[1][1] - 400 == pytest.approx(3 * (rooms[0][1] - 400), rel=0.1)


@pytest.mark.parametrize("scale", [0.6, 4.0])
def test_after_a_drift_it_holds_again_within_a_window(scale: float) -> None:
    held = coverage(stream(1, 2_000) + stream(2, 10_000, scale))
    if scale > 1:
        assert np.mean(held[2_000:2_050]) < 0.7, "the drift is one"
    after = held[2_000 + WINDOW :]
    assert 0.89 <= np.mean(after) <= 0.91
    assert np.mean(held[2_000 + WINDOW : 2_000 + 2 * WINDOW]) >= 0.86


def test_on_a_stream_that_drifts_all_the_time_it_nearly_holds() -> None:
    slow = [one for number in range(40) for one in stream(number, 250, 1.02**number)]
    assert 0.88 <= np.mean(coverage(slow)[WINDOW:]) <= 0.91


def test_where_a_third_is_cut_the_bound_holds_for_all() -> None:
    random = np.random.default_rng(7)
    found, held = calibration(), []
    for raw, tokens in stream(3, 10_000):
        limit = 0 if random.random() < 0.4 else max(1, round(random.lognormal(5.5, 1)))
        asked = query(tokens_max=limit)
        promised = found.bounded(asked, raw.capped(limit))
        if not limit:
            held.append(tokens <= promised.p90)
        served = min(tokens, limit) if limit else tokens
        found.learn(LengthOutcome(asked, served, served < tokens), raw.capped(limit))
    assert 0.88 <= np.mean(held[200:]) <= 0.92
