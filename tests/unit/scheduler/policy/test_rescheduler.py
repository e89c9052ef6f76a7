"""Which running requests Llumnix moves, on cases computed by hand."""

import numpy as np
import pytest

from forebay.scheduler.policy.rescheduler.base import Move, RescheduleView, Running
from forebay.scheduler.policy.rescheduler.llumnix import Llumnix
from forebay.scheduler.policy.rescheduler.none import NoMoves


def view(
    *running: list[int], room: int = 1_000, leaving: int = -1, closed: int = -1, waiting: int = 0
) -> RescheduleView:
    """Instances by what each of their requests holds."""
    count = len(running)
    return RescheduleView(
        np.array([index not in (leaving, closed) for index in range(count)]),
        np.array([index == leaving for index in range(count)]),
        np.full(count, room),
        np.array([sum(one) for one in running]),
        np.array([waiting] + [0] * (count - 1)),
        [
            [Running(f"{index}.{place}", tokens) for place, tokens in enumerate(one)]
            for index, one in enumerate(running)
        ],
    )


def test_nobody_asks_who_moves_nothing() -> None:
    assert NoMoves().period_s == 0
    assert NoMoves().moves(view([990], [])) == ()


def test_the_shortest_moves_from_where_each_has_less_than_three_blocks_left() -> None:
    # 1,000 - 860 tokens for three requests are 46 steps each; three blocks are 48.
    assert Llumnix().moves(view([300, 260, 300], [100])) == [Move("0.1", 1)]
    assert Llumnix().moves(view([300, 250, 300], [100])) == []


@pytest.mark.parametrize(("choice", "moved"), [("shortest", "0.1"), ("longest", "0.0"), ("newest", "0.2")])
def test_the_choice_says_which_one_moves(choice: str, moved: str) -> None:
    assert Llumnix(choice=choice).moves(view([350, 260, 300], [100])) == [Move(moved, 1)]


def test_the_least_free_is_paired_with_the_freest_and_each_has_one_partner() -> None:
    seen = view([960], [980], [100], [10])
    assert Llumnix().moves(seen) == [Move("1.0", 3), Move("0.0", 2)]


def test_what_waits_first_takes_room_and_counts_as_a_request() -> None:
    assert Llumnix().moves(view([800], [100])) == []
    assert Llumnix().moves(view([800], [100], waiting=150)) == [Move("0.0", 1)]


def test_an_instance_that_drains_is_emptied_however_free_it_is_and_gets_nothing() -> None:
    assert Llumnix().moves(view([10], [500], leaving=0)) == [Move("0.0", 1)]
    assert Llumnix().moves(view([10], [990], leaving=0)) == []


def test_nothing_goes_where_nothing_may_be_placed() -> None:
    assert Llumnix().moves(view([990], [10], closed=1)) == []


def test_balanced_moves_only_what_leaves_the_freer_one_the_freer_one() -> None:
    seen = view([960], [100, 100])
    assert Llumnix().moves(seen) == [Move("0.0", 1)]
    assert Llumnix(balanced=True).moves(seen) == []
    assert Llumnix(balanced=True).moves(view([250, 300, 420], [10])) == [Move("0.0", 1)]


@pytest.mark.parametrize("fields", [{"period_s": 0.0}, {"block_tokens": 0}, {"choice": "widest"}])
def test_parameters_that_cannot_be_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Llumnix(**fields)  # type: ignore[arg-type]
