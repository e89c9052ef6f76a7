"""A check's verdict follows from what it raises, and no check keeps the others from being run."""

from collections.abc import Awaitable, Callable

import grpc
import pytest

from forebay.conformance.checks import (
    PREFIX,
    Suite,
    Target,
    Unmet,
    Untried,
    Verdict,
    demand,
    paged,
    refusal,
    run_all,
    told,
)

NOBODY = Target(None, "", 1.0)  # type: ignore[arg-type]


def rpc_error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, nothing, nothing, details)


def ending(error: Exception | None) -> Callable[[Target], Awaitable[None]]:
    async def run(target: Target) -> None:
        if error is not None:
            raise error

    return run


async def answered(value: str) -> str:
    return value


async def failing(error: Exception) -> str:
    raise error


@pytest.mark.parametrize(
    ("error", "verdict", "detail"),
    [
        (None, Verdict.PASSED, ""),
        (Unmet("5 came"), Verdict.FAILED, "5 came"),
        (Untried("nothing is ready"), Verdict.SKIPPED, "nothing is ready"),
        (rpc_error(grpc.StatusCode.INTERNAL, "bang"), Verdict.FAILED, "the call failed: INTERNAL: bang"),
        (ValueError("not enough values"), Verdict.FAILED, "the answer cannot be read: not enough values"),
        (IndexError("list index"), Verdict.FAILED, "the answer cannot be read: list index"),
    ],
)
async def test_a_verdict_follows_from_what_a_check_raises(
    error: Exception | None, verdict: Verdict, detail: str
) -> None:
    suite = Suite("s")
    suite.check("Area", "name", "promise")(ending(error))
    suite.check("Area", "next", "promise")(ending(None))
    first, second = [one async for one in run_all(suite.checks, NOBODY)]
    assert (first.check.name, first.verdict, first.detail) == ("name", verdict, detail)
    assert (second.check.name, second.verdict) == ("next", Verdict.PASSED)


async def test_a_mistake_of_the_kit_itself_is_not_taken_for_the_services() -> None:
    suite = Suite("s")
    suite.check("Area", "name", "promise")(ending(TypeError("ours")))
    with pytest.raises(TypeError):
        [one async for one in run_all(suite.checks, NOBODY)]


def test_a_demand_says_what_came() -> None:
    demand(True, "nothing")
    with pytest.raises(Unmet, match="5 came"):
        demand(False, "5 came")


async def test_a_refusal_is_the_error_that_was_due() -> None:
    due = rpc_error(grpc.StatusCode.NOT_FOUND, "who?")
    assert (await refusal(failing(due), grpc.StatusCode.NOT_FOUND)).message == "who?"
    with pytest.raises(Unmet, match="ABORTED was due; came NOT_FOUND: who"):
        await refusal(failing(due), grpc.StatusCode.ABORTED)
    with pytest.raises(Unmet, match="NOT_FOUND was due; came an answer: well"):
        await refusal(answered("well"), grpc.StatusCode.NOT_FOUND)
    with pytest.raises(Unmet, match="came an answer: an empty one"):
        await refusal(answered(""), grpc.StatusCode.NOT_FOUND)


async def test_pages_are_followed_to_the_last_but_not_for_ever() -> None:
    class Page:
        def __init__(self, items: list[int], token: str) -> None:
            self.items, self.next_page_token = items, token

    pages = {"": Page([1, 2], "a"), "a": Page([3], "")}

    async def ask(token: str) -> Page:
        return pages[token]

    async def again(token: str) -> Page:
        return Page([1], "again")

    assert await paged(ask, "items", 3) == [1, 2, 3]
    assert await paged(again, "items", 3) == [1, 1, 1, 1]


def test_ids_can_be_told_and_are_new() -> None:
    made = {NOBODY.new_id() for _ in range(10)}
    assert len(made) == 10
    assert all(one.startswith(PREFIX) for one in made)


def test_an_error_is_told_in_one_line() -> None:
    assert told(rpc_error(grpc.StatusCode.ABORTED, "later")) == "ABORTED: later"
    assert told(grpc.RpcError("odd")) == "odd"
