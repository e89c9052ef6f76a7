from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from forebay.core.values import InferenceRequest
from forebay.predictor.lengths.remembered import Remembered
from forebay.predictor.policy.length import PredictionFailed


class Counting:
    """Says a prompt's length and counts who asks; fails on demand."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = False

    def infer(self, queries: Sequence[InferenceRequest]) -> npt.NDArray[np.float64]:
        if self.fails:
            raise PredictionFailed("broken")
        self.asked += [query.request_id for query in queries]
        return np.array([[query.prompt_tokens] * 4 for query in queries], dtype=np.float64).reshape(-1, 4)


def query(number: int, tokens: int = 0) -> InferenceRequest:
    return InferenceRequest(f"q{number}", "m", tokens or number + 1)


def test_what_is_known_is_not_asked_again_and_comes_in_order() -> None:
    model = Counting()
    memory = Remembered(model)
    assert memory.infer([query(1), query(2)])[:, 0].tolist() == [2, 3]
    assert memory.infer([query(3), query(1), query(3), query(2)])[:, 0].tolist() == [4, 2, 4, 3]
    assert model.asked == ["q1", "q2", "q3"]
    assert memory.infer([]).shape == (0, 4)


def test_a_query_that_differs_in_anything_is_another_one() -> None:
    model = Counting()
    memory = Remembered(model)
    memory.infer([query(1)])
    assert memory.infer([query(1, tokens=50)])[0, 0] == 50


def test_the_oldest_give_way_even_within_one_batch() -> None:
    model = Counting()
    memory = Remembered(model, count_max=2)
    assert memory.infer([query(number) for number in range(5)])[:, 0].tolist() == [1, 2, 3, 4, 5]
    memory.infer([query(4)])
    memory.infer([query(0)])
    assert model.asked == ["q0", "q1", "q2", "q3", "q4", "q0"]


def test_a_failure_is_not_kept() -> None:
    model = Counting()
    memory = Remembered(model)
    model.fails = True
    with pytest.raises(PredictionFailed):
        memory.infer([query(1)])
    model.fails = False
    assert memory.infer([query(1)])[0, 0] == 2
