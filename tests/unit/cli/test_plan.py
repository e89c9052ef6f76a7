"""Equal seeds deal equal requests, and the trace's times are cut and scaled as asked."""

import pytest

from forebay.cli.loaders import Arrival, Prompt
from forebay.cli.plan import Dealer, PlannedRequest, arrival_times

PROMPTS = [Prompt(str(number)) for number in range(5)]


def dealt(seed: int, count: int = 10) -> list[PlannedRequest]:
    dealer = Dealer(PROMPTS, ["a", "b"], ["interactive-fast"], 7, seed)
    return [dealer.deal(float(number)) for number in range(count)]


def test_equal_seeds_deal_equal_requests_and_others_do_not() -> None:
    assert dealt(1) == dealt(1)
    assert dealt(1) != dealt(2)


def test_every_prompt_is_dealt_once_before_any_comes_again() -> None:
    texts = [request.prompt.text for request in dealt(3)]
    assert sorted(texts[:5]) == sorted(texts[5:]) == ["0", "1", "2", "3", "4"]


def test_requests_are_numbered_and_carry_the_limit() -> None:
    requests = dealt(1, count=3)
    assert [request.index for request in requests] == [0, 1, 2]
    assert {request.tokens_max for request in requests} == {7}


def test_a_dealer_without_models_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Dealer(PROMPTS, [], ["deferred"], None, 1)


def times(
    start_s: float = 0, duration_s: float | None = None, scale: float = 1, limit: int | None = None
) -> list[float]:
    arrivals = [Arrival(float(at_s), 1, 1) for at_s in (0, 2, 4, 8, 16)]
    return list(arrival_times(arrivals, start_s, duration_s, scale, limit))


def test_a_doubled_rate_halves_the_times() -> None:
    assert times(scale=2) == [0, 1, 2, 4, 8]


def test_a_later_start_leaves_out_what_is_before_it() -> None:
    assert times(start_s=3) == [1, 5, 13]


def test_the_duration_counts_seconds_of_load() -> None:
    assert times(duration_s=4, scale=2) == [0, 1, 2]


def test_the_limit_counts_requests_that_are_sent() -> None:
    assert times(start_s=3, limit=2) == [1, 5]
