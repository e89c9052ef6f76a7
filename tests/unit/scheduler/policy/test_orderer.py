import numpy as np
import pytest

from forebay.core.values import InferenceRequest
from forebay.scheduler.policy.orderer.base import Keys, OrderView
from forebay.scheduler.policy.orderer.fcfs import Fcfs
from forebay.scheduler.policy.orderer.shortest_predicted import ShortestPredicted

S = 1_000_000
START = 1_795_000_000 * S


def view(now_s: float, *rows: tuple[float, int]) -> OrderView:
    """Held requests by seconds of arrival and predicted tokens."""
    arrived = np.array([START + round(row[0] * S) for row in rows], dtype=np.int64)
    predicted = np.array([row[1] for row in rows], dtype=np.int64)
    zeros = np.zeros(len(rows), dtype=np.int64)
    requests = [InferenceRequest(f"r{index}", "m", 1) for index in range(len(rows))]
    due = arrived + 60 * S
    return OrderView(START + round(now_s * S), arrived, due, predicted, zeros, zeros, due, predicted, zeros, requests)


def order(keys: Keys) -> list[int]:
    return list(np.argsort(keys, kind="stable"))


def test_fcfs_ranks_by_arrival_and_by_nothing_else() -> None:
    assert order(Fcfs().rank(view(10, (3, 1), (1, 999), (2, 5)))) == [1, 2, 0]


def test_fcfs_tells_arrivals_a_microsecond_apart() -> None:
    assert order(Fcfs().rank(view(3_600, (0.000002, 1), (0.000001, 1), (0.0, 1)))) == [2, 1, 0]


def test_shortest_predicted_ranks_equal_waits_by_length() -> None:
    assert order(ShortestPredicted().rank(view(10, (1, 300), (1, 20), (1, 100)))) == [1, 2, 0]


def test_without_ageing_a_long_request_waits_for_ever() -> None:
    keys = ShortestPredicted(ageing_tokens_per_s=0).rank(view(10_000, (0, 1_000), (9_999, 10)))
    assert order(keys) == [1, 0]


@pytest.mark.parametrize(("apart_s", "first"), [(19.0, 1), (21.0, 0)])
def test_ageing_lets_a_longer_request_be_overtaken_for_a_bounded_time_only(apart_s: float, first: int) -> None:
    # 1,000 tokens longer at 50 tokens a second: overtaken by those that come within 20 s.
    keys = ShortestPredicted(ageing_tokens_per_s=50).rank(view(100, (0, 1_010), (apart_s, 10)))
    assert order(keys)[0] == first


def test_the_order_of_two_requests_does_not_change_while_they_wait() -> None:
    rows = ((0.0, 700), (5.0, 400), (9.0, 350))
    early, late = (ShortestPredicted().rank(view(now, *rows)) for now in (10.0, 5_000.0))
    assert order(early) == order(late)


def test_shortest_predicted_refuses_negative_ageing() -> None:
    with pytest.raises(ValueError, match="ageing"):
        ShortestPredicted(ageing_tokens_per_s=-1)
