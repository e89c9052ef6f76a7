"""Values as bytes between two processes of ours."""

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.predictor.policy.forecaster import FORECASTERS, ForecastFailed, LeastError
from forebay.predictor.traffic.learned import Learned, learn
from forebay.predictor.traffic.refit.frames import FRAME_BYTES_MAX, HEAD, MAGIC, FrameError, pack, sizes, unpack
from forebay.predictor.traffic.refit.tasks import Failed, Task, answer, outcome
from forebay.predictor.traffic.series import Series

OURS = ("forebay.predictor",)
SERIES = Series(np.random.default_rng(3).poisson(50, (200, 3)).astype(float), 0, 600_000_000)


def parts(frame: bytes) -> tuple[bytes, bytes]:
    text_count, array_count = sizes(frame[: HEAD.size])
    assert len(frame) == HEAD.size + text_count + array_count
    return frame[HEAD.size : HEAD.size + text_count], frame[HEAD.size + text_count :]


def there_and_back(value: object) -> Any:
    return unpack(*parts(pack(value)), OURS)


def ticking() -> float:
    return 0.0


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(PLAIN)
def test_plain_values_come_back_as_they_went(value: Any) -> None:
    assert there_and_back(value) == value


def test_arrays_and_gaps_come_back() -> None:
    values = np.array([[1.0, np.nan], [np.inf, -0.0]])
    assert np.array_equal(there_and_back({"a": (values, np.arange(3))})["a"][0], values, equal_nan=True)
    assert there_and_back(np.float64(2.5)) == 2.5


def test_dataclasses_come_back_as_what_they_were() -> None:
    found = there_and_back(Task(LeastError(season_s=5), SERIES, 12))
    assert (found.policy, found.lead_max, found.series.window_us) == (LeastError(season_s=5), 12, 600_000_000)
    assert np.array_equal(found.series.values, SERIES.values)


@dataclass(frozen=True)
class Foreign:
    """Of a module that frames may not name."""

    value: int = 1


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", lambda: 0, np.array([object()]), Series])
def test_what_is_not_plain_does_not_go(value: object) -> None:
    with pytest.raises(FrameError, match="not"):
        pack(value)


def told(kind: str, **fields: object) -> tuple[bytes, bytes]:
    _, arrays = parts(pack(None))
    return json.dumps({"value": kind, "fields": fields}).encode(), arrays


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("subprocess:Popen", {"args": "true"}),
        ("builtins:eval", {"source": "1"}),
        (f"{__name__}:Foreign", {}),
        ("forebay.predictor_evil:X", {}),
        ("forebay.predictor.traffic.series:np", {}),
        ("forebay.predictor.traffic.series:align", {"points": [], "window_us": 1}),
        ("forebay.predictor.missing:X", {}),
        ("forebay.predictor.traffic.series:Series", {"unknown": 1}),
        ("forebay.predictor.traffic.refit.frames:pack.__globals__", {}),
        ("", {}),
    ],
)
def test_a_frame_names_dataclasses_of_ours_and_nothing_else(kind: str, fields: dict[str, object]) -> None:
    with pytest.raises(FrameError):
        unpack(*told(kind, **fields), OURS)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_other_bytes_are_refused(text: bytes, arrays: bytes) -> None:
    with pytest.raises(FrameError):
        unpack(text, arrays, OURS)


def test_arrays_that_hold_objects_are_refused() -> None:
    block = io.BytesIO()
    np.savez(block, a0=np.array([object()], dtype=object))
    with pytest.raises(FrameError):
        unpack(b'{"array": 0}', block.getvalue(), OURS)


@pytest.mark.parametrize("head", [HEAD.pack(b"HTTP", 1, 1), HEAD.pack(MAGIC, FRAME_BYTES_MAX, 1)])
def test_a_head_that_is_none_or_says_too_much_is_refused(head: bytes) -> None:
    with pytest.raises(FrameError):
        sizes(head)


def test_a_task_is_answered_by_what_was_learned() -> None:
    found = outcome(*parts(answer(*parts(pack(Task(LeastError(), SERIES, 12))), OURS, ticking)), OURS)
    wanted = learn(LeastError(), SERIES, 12)
    assert found.fitted == wanted.fitted
    assert np.array_equal(found.spread.shifts, wanted.spread.shifts)


@dataclass(frozen=True)
class Raising:
    """Cannot be fitted."""

    def fit(self, series: Series) -> Any:
        raise RuntimeError("out of ideas")


def test_a_task_that_fails_is_answered_by_its_error() -> None:
    reply = answer(*parts(pack(Task(Raising(), SERIES, 12))), (*OURS, __name__), ticking)
    with pytest.raises(ForecastFailed, match="RuntimeError: out of ideas"):
        outcome(*parts(reply), OURS)


def test_an_answer_of_another_kind_is_refused() -> None:
    with pytest.raises(FrameError, match="answers no task"):
        outcome(*parts(pack((1, 2))), OURS)
    with pytest.raises(ForecastFailed, match="text"):
        outcome(*parts(pack(Failed("text"))), OURS)


@pytest.mark.parametrize("name", FORECASTERS)
def test_every_forecaster_goes_to_another_process_and_what_it_learned_comes_back(name: str) -> None:
    task = there_and_back(Task(FORECASTERS[name](), SERIES.until(60), 6))
    learned = learn(task.policy, task.series, 6)
    found: Learned = there_and_back(learned)
    longer = SERIES.until(70)
    assert np.allclose(found.fitted.points(longer, 6), learned.fitted.points(longer, 6))
    assert found.label == learned.label
