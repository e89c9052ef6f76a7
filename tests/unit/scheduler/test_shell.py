import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from forebay.core.errors import NotFound, Unavailable
from forebay.core.scheduling import Answer, Placement, Rejected
from forebay.core.values import InferenceRequest, LengthPrediction, Outcome
from forebay.scheduler.actions import Observe
from forebay.scheduler.shell import Shell
from tests.unit.scheduler.kit import S, engine, instance, prediction, request


class Neighbours:
    """The shell's ports; a prediction comes when the test says so."""

    def __init__(self) -> None:
        self.now_us = 0
        self.asked: list[tuple[InferenceRequest, Callable[[LengthPrediction | None], None]]] = []
        self.wakes: list[int] = []
        self.outcomes: list[Observe] = []
        self.answers: list[Answer] = []
        self.in_time: list[bool] = []

    def clock(self) -> int:
        return self.now_us

    def ask(self, asked: InferenceRequest, reply: Callable[[LengthPrediction | None], None]) -> None:
        self.asked.append((asked, reply))

    def predict(self, tokens: int | None = 50) -> None:
        _, reply = self.asked.pop(0)
        reply(prediction(tokens) if tokens else None)

    def observe(self, outcome: Observe) -> None:
        self.outcomes.append(outcome)

    def set(self, at_us: int) -> None:
        self.wakes.append(at_us)

    def answered(self, answer: Answer) -> None:
        self.answers.append(answer)

    def predicted(self, in_time: bool) -> None:
        self.in_time.append(in_time)


def world(*instances: Any, **settings: Any) -> tuple[Shell, Neighbours]:
    to = Neighbours()
    return Shell(engine(*(instances or (instance("a"),)), **settings), to.clock, to, to, to), to


async def settled() -> None:
    """Lets everything run that can run."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_an_arrival_is_answered_once_its_length_is_predicted() -> None:
    shell, to = world()
    got: list[Answer] = []
    shell.arrive(request("r1"), got.append)
    assert got == []
    to.predict()
    assert [type(one) for one in got] == [Placement]
    assert (got, to.in_time, to.wakes) == (to.answers, [True], [60 * S])


def test_two_arrivals_of_one_request_are_predicted_once_and_both_answered() -> None:
    shell, to = world()
    got: list[Answer] = []
    for _ in range(2):
        shell.arrive(request("r1"), got.append)
    to.predict()
    assert (len(to.asked), len(got), got[0] == got[1]) == (0, 2, True)


def test_a_request_that_runs_is_answered_again_without_a_prediction() -> None:
    shell, to = world()
    got: list[Answer] = []
    shell.arrive(request("r1"), got.append)
    to.predict()
    shell.arrive(request("r1"), got.append)
    assert (len(to.asked), got[0] == got[1]) == (0, True)


def test_a_request_that_its_instance_failed_is_predicted_again() -> None:
    shell, to = world(instance("a"), instance("b"))
    got: list[Answer] = []
    shell.arrive(request("r1"), got.append)
    to.predict()
    shell.arrive(request("r1", excluded_instance_ids=frozenset({"a/m"})), got.append)
    to.predict(7)
    assert isinstance(got[1], Placement)
    assert (got[1].instance_id, got[1].predicted.p50) == ("b/m", 7)


def test_an_arrival_that_is_abandoned_while_it_is_predicted_is_never_placed() -> None:
    shell, to = world()
    got: list[Answer] = []
    shell.arrive(request("r1"), got.append)
    shell.abandon("r1", got.append)
    to.predict()
    assert (got, shell.engine.leases()) == ([], [])


def test_an_arrival_that_one_of_two_abandons_is_still_placed_for_the_other() -> None:
    shell, to = world()
    first: list[Answer] = []
    second: list[Answer] = []
    shell.arrive(request("r1"), first.append)
    shell.arrive(request("r1"), second.append)
    shell.abandon("r1", first.append)
    to.predict()
    assert (len(first), len(second)) == (0, 1)


def test_a_cancelled_prediction_is_answered_once() -> None:
    shell, to = world()
    got: list[Answer] = []
    shell.arrive(request("r1"), got.append)
    shell.cancel("r1")
    to.predict()
    assert [one.reason for one in got if isinstance(one, Rejected)] == ["CANCELLED"]
    assert len(got) == 1


def test_abandoning_what_was_answered_leaves_the_lease_alone() -> None:
    shell, to = world()
    got: list[Answer] = []
    shell.arrive(request("r1"), got.append)
    to.predict()
    shell.abandon("r1", got.append)
    assert len(shell.engine.leases()) == 1


def test_outcomes_go_to_who_learns_from_them() -> None:
    shell, to = world()
    shell.arrive(request("r1"), lambda _: None)
    to.predict()
    shell.finish("s-l1", Outcome.STOPPED, 9)
    assert [(one.request.request_id, one.generated_tokens) for one in to.outcomes] == [("r1", 9)]


async def test_a_caller_that_is_cancelled_takes_its_hold_along() -> None:
    shell, to = world(instance("a", concurrency_max=0), puller="fixed_cap", puller_parameters={"count": 1})
    shell.arrive(request("r1"), lambda _: None)
    to.predict()
    waiting = asyncio.ensure_future(shell.place(request("r2")))
    await asyncio.sleep(0)
    to.predict()
    assert shell.engine.queues(0)[0].held_count == 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert shell.engine.queues(0)[0].held_count == 0


def test_a_drain_counts_leases_only_after_the_grace() -> None:
    shell, to = world()
    with pytest.raises(Unavailable) as caught:
        shell.drain("a/m", 3 * S)
    assert (caught.value.code, caught.value.retry_after_us) == ("RESUMING", 3 * S)
    to.now_us = 3 * S
    assert shell.drain("a/m", 3 * S) == 0


def test_draining_an_unknown_instance_fails_at_once() -> None:
    shell, _ = world()
    with pytest.raises(NotFound):
        shell.drain("nope", 3 * S)


async def test_a_watch_gives_the_fleet_now_and_after_each_change() -> None:
    shell, _ = world()
    watch = shell.watch("", 0)
    assert [one.instance.instance_id for one in await anext(watch)] == ["a/m"]
    later = asyncio.ensure_future(anext(watch))
    await settled()
    assert not later.done()
    shell.fleet([instance("a"), instance("b")])
    assert [one.instance.instance_id for one in await later] == ["a/m", "b/m"]
    await watch.aclose()  # type: ignore[attr-defined]


async def test_a_watch_of_one_model_does_not_hear_of_another() -> None:
    shell, _ = world(instance("a"), instance("a", "n"))
    watch = shell.watch("n", 0)
    await anext(watch)
    later = asyncio.ensure_future(anext(watch))
    shell.fleet([instance("b"), instance("a", "n")])
    await settled()
    assert not later.done()
    shell.fleet([instance("b"), instance("b", "n")])
    assert [one.instance.instance_id for one in await later] == ["b/n"]
    await watch.aclose()  # type: ignore[attr-defined]
