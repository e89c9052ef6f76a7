"""A part is asked at its pace, and away when it is: at once where nobody listens, not for one late answer."""

from collections.abc import Callable

import grpc
import pytest

from forebay.metrics.page.asking import LATE_COUNT_MAX, Asked, reason_of
from tests.unit.metrics.page.kit import NOW, S


class Teller:
    """Answers with the time, or fails as it is told."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.count = 0

    async def __call__(self, now_us: int) -> int:
        self.count += 1
        if self.error is not None:
            raise self.error
        return now_us


def failed(
    code: grpc.StatusCode, metadata: Callable[[], grpc.aio.Metadata] = grpc.aio.Metadata
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, metadata(), metadata(), "sockets and retries")


LATE = failed(grpc.StatusCode.DEADLINE_EXCEEDED)
GONE = failed(grpc.StatusCode.UNAVAILABLE)


async def asked(*errors: BaseException | None, kind: str = "scheduler") -> Asked[int]:
    teller = Teller()
    made = Asked(kind, "h:1", teller, S)
    for second, error in enumerate(errors):
        teller.error = error
        await made.refresh(NOW + second * S)
    return made


async def test_a_part_is_asked_once_an_interval_and_a_little_early_is_in_time() -> None:
    teller = Teller()
    made = Asked("scheduler", "h:1", teller, S)
    for at_us in (NOW, NOW + S // 2, NOW + 9 * S // 10, NOW + 2 * S):
        await made.refresh(at_us)
    assert teller.count == 3
    assert made.answer == NOW + 2 * S


async def test_where_nobody_listens_the_part_is_away_at_once_with_what_still_works() -> None:
    made = await asked(None, GONE)
    assert made.answer is None
    part = made.part()
    assert (part.is_up, part.since_us) == (False, NOW + S)
    assert part.note == "it does not answer; gateways place by least outstanding until it is back"


async def test_a_late_answer_leaves_the_last_one_until_there_are_several_in_a_row() -> None:
    made = await asked(None, *[LATE] * (LATE_COUNT_MAX - 1))
    assert (made.answer, made.part().is_up) == (NOW, True)
    made = await asked(None, *[LATE] * LATE_COUNT_MAX)
    assert (made.answer, made.part().is_up) == (None, False)
    made = await asked(None, *[LATE] * (LATE_COUNT_MAX - 1), None, LATE)
    assert made.part().is_up


async def test_a_part_that_never_answered_is_away_from_its_first_late_answer() -> None:
    assert not (await asked(LATE)).part().is_up


async def test_a_part_that_is_back_is_there_since_then() -> None:
    part = (await asked(None, GONE, GONE, None, None)).part()
    assert (part.is_up, part.since_us, part.note) == (True, NOW + 3 * S, "")


@pytest.mark.parametrize("error", [TimeoutError(), GONE])
def test_sockets_and_retries_are_nothing_for_a_reader(error: BaseException) -> None:
    assert reason_of(error) == "it does not answer"


def test_what_a_store_says_is_told() -> None:
    assert reason_of(OSError("the database is away")) == "the database is away"
