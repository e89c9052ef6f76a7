"""What is learnt outlives a restart: an engine that takes another one's snapshots goes on where that one stopped."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from forebay.core.errors import Unavailable
from forebay.core.prediction import LengthOutcome, ModelKind, PredictorModel
from forebay.core.values import InferenceRequest, LengthPrediction
from forebay.predictor.build import build_engine
from forebay.predictor.config import Config
from forebay.predictor.engine import Loaded, PredictorEngine
from forebay.predictor.lengths.accuracy import WINDOW_COUNT
from forebay.predictor.lengths.keeper import COUNT_MAX, Keeper, Pace
from forebay.predictor.lengths.snapshot_store import MemorySnapshotStore, SnapshotStore, packed
from forebay.predictor.lengths.snapshots import EVERYBODY, KEYS_MAX, Snapshot
from forebay.predictor.policy.length import Histogram, KernelHistory, Lasting, OnnxQuantile

SECRET = "a prompt that nobody else may read"
NOW = 1_700_000_000_000_000
PACE = Pace(0.01, 60)


class Halves:
    """A trained model that says half of what comes: 10 tokens a token of the prompt come."""

    def infer(self, queries: Sequence[InferenceRequest]) -> np.ndarray:
        tokens = np.array([query.prompt_tokens for query in queries], dtype=np.float64)
        return tokens[:, None] * [2.0, 5.0, 7.0, 9.0]


def query(number: int, application: str = "chat") -> InferenceRequest:
    return InferenceRequest(f"q{number}", "m", 5 + number % 40, application=application, prompt_head=SECRET)


def engine_with(digest: str = "d" * 64, **settings: object) -> PredictorEngine:
    made = build_engine(Config(provider="cpu", **settings))  # type: ignore[arg-type]
    model = PredictorModel("onnx_quantile", ModelKind.LENGTH, "3", digest_sha256=digest)
    loaded = Loaded(model, OnnxQuantile(Halves()))
    made.on_loaded(loaded)
    made.on_activate(ModelKind.LENGTH, loaded.label)
    return made


def predict(engine: PredictorEngine, queries: Sequence[InferenceRequest]) -> list[LengthPrediction]:
    answering = engine.on_queries(queries)
    while not answering.step():
        pass
    return answering.predictions


def live(engine: PredictorEngine, count: int, start: int = 0, factor: float = 10.0) -> None:
    """Predicts and learns, sixteen at a time."""
    rng = np.random.default_rng(start)
    for first in range(start, start + count, 16):
        queries = [query(number, "chat" if number % 3 else "code") for number in range(first, first + 16)]
        outcomes = [
            LengthOutcome(
                one, int(factor * one.prompt_tokens * rng.uniform(0.6, 1.6)), predicted=said.quantiles,
                predicted_by=said.predicted_by,
            )
            for one, said in zip(queries, predict(engine, queries), strict=True)
        ]  # fmt: skip
        learning = engine.on_outcomes(f"o{first}", outcomes, NOW + first)
        while not learning.step():
            pass


ASKED = [query(number, application) for number in range(40) for application in ("chat", "code", "new")]


def test_bounds_figures_and_corrections_go_on_where_they_stopped() -> None:
    before, after, blank = engine_with(), engine_with(), engine_with()
    live(before, 800)
    for one in before.snapshots():
        assert after.on_restored(one)
    assert after.accuracy.rows() == before.accuracy.rows()
    # Corrections are fitted once in eight outcomes, so those of the one that begins anew are a little fresher.
    expected, found, raw = ([one.quantiles for one in predict(each, ASKED)] for each in (before, after, blank))
    np.testing.assert_allclose([one.p90 for one in found], [one.p90 for one in expected], rtol=0.05)
    assert np.mean([one.p90 for one in raw]) < 0.7 * np.mean([one.p90 for one in expected])
    live(before, 160, 800)
    live(after, 160, 800)
    for one, other in zip(before.accuracy.rows(), after.accuracy.rows(), strict=True):
        assert (one.predictor, one.since_us) == (other.predictor, other.since_us)
        assert one.coverage_p90 == pytest.approx(other.coverage_p90, abs=0.02)


def test_the_bounds_of_a_predictor_that_does_not_learn_are_the_same_after_a_restart() -> None:
    before, after, blank = (build_engine(Config(provider="cpu", length="input_ratio")) for _ in range(3))
    live(before, 320, factor=2.0)
    for one in before.snapshots():
        after.on_restored(one)
    expected, found, raw = (predict(each, ASKED) for each in (before, after, blank))
    assert found == expected
    assert sum(one.quantiles.p90 for one in raw) < 0.8 * sum(one.quantiles.p90 for one in expected)


def test_an_alarm_rings_on_after_a_restart() -> None:
    before, after = engine_with(), engine_with()
    live(before, 320)
    live(before, 96, 320, factor=40.0)
    assert any(row.is_drifting for row in before.accuracy.rows())
    for one in before.snapshots():
        after.on_restored(one)
    assert [(row.is_drifting, row.drift_since_us) for row in after.accuracy.rows()] == [
        (row.is_drifting, row.drift_since_us) for row in before.accuracy.rows()
    ]
    assert {one.predicted_by for one in predict(after, ASKED)} == {one.predicted_by for one in predict(before, ASKED)}


def test_figures_of_all_together_and_of_who_has_no_file_go_on_too() -> None:
    before, after = engine_with(), engine_with()
    live(before, 64)
    said = predict(before, [query(1)])[0].quantiles
    learning = before.on_outcomes("s", [LengthOutcome(query(1), 70, predicted=said, predicted_by="scheduler")], NOW)
    while not learning.step():
        pass
    for one in before.snapshots():
        after.on_restored(one)
    assert "scheduler" in {row.predictor for row in after.accuracy.rows()}
    assert after.accuracy.overall.count == before.accuracy.overall.count == 65
    assert after.accuracy.overall.coverage_p90 == before.accuracy.overall.coverage_p90


def test_another_file_of_the_same_version_takes_nothing_over() -> None:
    before, other = engine_with(), engine_with(digest="e" * 64)
    live(before, 160)
    taken = [one for one in before.snapshots() if other.on_restored(one)]
    assert {one.owner for one in taken} <= {"kernel_history", "histogram", EVERYBODY}
    assert not [row for row in other.accuracy.rows() if row.predictor.startswith("onnx")]


def test_no_prompt_and_no_id_is_in_a_snapshot() -> None:
    engine = engine_with()
    live(engine, 160)
    found = list(engine.snapshots())
    assert {one.kind for one in found} == {"policy", "bounds", "figures"}
    names = {name for one in found for name in one.key}
    assert {name for name in names if not name.lstrip("-").isdecimal()} == {"m", "chat", "code"}
    assert not any(SECRET.encode() in one.rows.tobytes() for one in found)


def test_what_is_kept_is_bounded() -> None:
    engine = engine_with()
    for first in range(0, 4 * KEYS_MAX, 16):
        queries = [query(number, f"app{number}") for number in range(first, first + 16)]
        learning = engine.on_outcomes(f"o{first}", [LengthOutcome(one, 50) for one in queries], NOW)
        while not learning.step():
            pass
    live(engine, 16 * 80, 10_000)
    counts: dict[tuple[str, str], int] = {}
    for one in engine.snapshots():
        counts[one.owner, one.kind] = counts.get((one.owner, one.kind), 0) + 1
        assert len(one.rows) <= WINDOW_COUNT + 12
    assert max(counts.values()) <= KEYS_MAX


@pytest.mark.parametrize("make", [lambda: OnnxQuantile(Halves()), KernelHistory, Histogram])
def test_a_policy_that_takes_what_another_saved_predicts_as_it_does(make: Callable[[], Lasting]) -> None:
    before, after = make(), make()
    outcomes = [
        LengthOutcome(query(number), 20 + 7 * number % 300, censored=number % 5 == 0) for number in range(1_200)
    ]
    before.observe(outcomes)  # type: ignore[attr-defined]
    for key, rows in before.saved():
        after.restore(key, rows)
    expected, found = (one.predict(ASKED) for one in (before, after))  # type: ignore[attr-defined]
    for one, other in zip(expected, found, strict=True):
        assert other.quantiles.p90 == pytest.approx(one.quantiles.p90, rel=0.05)


@pytest.mark.parametrize("rows", [np.ones((3, 9)), np.array([[np.nan] * 7]), np.empty((0, 7)), np.ones(4)])
@pytest.mark.parametrize("kind", ["policy", "bounds", "figures"])
def test_what_was_not_saved_is_refused_and_changes_nothing(kind: str, rows: np.ndarray) -> None:
    engine = engine_with()
    if kind != "figures" and rows.shape == (0, 7):
        return
    with pytest.raises(ValueError, match=r"snapshot|unpack"):
        engine.on_restored(Snapshot("onnx_quantile@3#" + "d" * 16, kind, ("m", "chat"), rows))
    assert engine.accuracy.rows() == []


# The keeper


def keeper_of(engine: PredictorEngine, store: SnapshotStore) -> Keeper:
    return Keeper(lambda: store, engine, PACE, lambda: NOW)


async def test_a_predictor_that_starts_again_knows_what_the_one_before_kept() -> None:
    store, before, after = MemorySnapshotStore(), engine_with(), engine_with()
    live(before, 320)
    await keeper_of(before, store).flush()
    await keeper_of(after, store).restore()
    assert after.accuracy.rows() == before.accuracy.rows()


async def test_it_writes_by_itself_now_and_then() -> None:
    store, engine = MemorySnapshotStore(), engine_with()
    live(engine, 64)
    task = asyncio.create_task(keeper_of(engine, store).run())
    while not store.read():
        await asyncio.sleep(0.001)
    task.cancel()


class Counting(MemorySnapshotStore):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def write(self, snapshots: Sequence[Snapshot], at_us: int) -> None:
        self.names += [one.name for one in snapshots]
        super().write(snapshots, at_us)


async def test_only_what_changed_is_written_again() -> None:
    store, engine = Counting(), engine_with()
    live(engine, 64)
    keeper = keeper_of(engine, store)
    await keeper.flush()
    store.names.clear()
    await keeper.flush()
    assert store.names == []
    learning = engine.on_outcomes("one more", [LengthOutcome(query(1), 50)], NOW)
    while not learning.step():
        pass
    await keeper.flush()
    by_name = {one.name: one for one in engine.snapshots()}
    assert {by_name[name].key for name in store.names if by_name[name].kind == "bounds"} == {("m", "chat"), ("m",), ()}


async def test_a_snapshot_that_cannot_be_taken_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    store, engine = MemorySnapshotStore(), engine_with()
    live(engine, 64)
    await keeper_of(engine, store).flush()
    bad = next(one for one in engine.snapshots() if one.kind == "figures")
    store.write([Snapshot(bad.owner, bad.kind, bad.key, np.ones((1, 3)))], NOW)
    after = engine_with()
    await keeper_of(after, store).restore()
    assert len(after.accuracy.rows()) == len(engine.accuracy.rows()) - 1
    assert "cannot be read" in caplog.text


class Down(MemorySnapshotStore):
    """A store that is down until it is told to be up."""

    is_up = False

    def prune(self, before_us: int, count_max: int) -> int:
        if not self.is_up:
            raise Unavailable("the database does not answer")
        assert count_max == COUNT_MAX
        return super().prune(before_us, count_max)


async def test_while_the_store_is_down_the_predictor_goes_on_and_writes_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, engine = Down(), engine_with()
    keeper = keeper_of(engine, store)
    await keeper.restore()
    live(engine, 64)
    await keeper.flush()
    await keeper.flush()
    assert caplog.text.count("what is learnt is not kept over a restart") == 1
    store.is_up = True
    await keeper.flush()
    assert "is kept over a restart again" in caplog.text
    assert len(store.read()) == len(list(engine.snapshots()))


async def test_what_has_not_changed_for_long_goes() -> None:
    store, engine = MemorySnapshotStore(), engine_with()
    store.write([Snapshot("onnx_quantile@2", "bounds", ("m",), np.ones((1, 2)))], NOW - 61_000_000)
    live(engine, 16)
    await keeper_of(engine, store).flush()
    assert all(one.owner != "onnx_quantile@2" for one in store.read())


def test_a_snapshot_of_five_hundred_outcomes_takes_few_kilobytes() -> None:
    engine = engine_with()
    live(engine, 1_600)
    assert max(len(packed(one.rows)) for one in engine.snapshots()) < 30_000
