"""Keeps a fixed number of questions in flight until all are answered and written down."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby

from forebay.core.errors import ConfigError, InvalidArgument
from forebay.train.endpoint import Endpoint
from forebay.train.measurements import Answer, Ask, Table, row_of

REFUSED_IN_A_ROW_MAX = 5


@dataclass(slots=True)
class Tally:
    """What has come of a run; `refusal` is what the endpoint last said to a prompt that it did not take."""

    answered_count: int = 0
    token_count: int = 0
    censored_count: int = 0
    refused_count: int = 0
    refused_in_a_row: int = 0
    refusal: str = ""

    def take(self, answer: Answer) -> None:
        """Counts an answer."""
        self.answered_count += 1
        self.token_count += answer.response_tokens
        self.censored_count += answer.censored
        self.refused_in_a_row = 0

    def refuse(self, error: InvalidArgument) -> None:
        """Counts a refusal. Raises the error when so many come in a row that the prompts are not to blame."""
        self.refused_count += 1
        self.refused_in_a_row += 1
        self.refusal = error.message
        if self.refused_in_a_row >= REFUSED_IN_A_ROW_MAX:
            raise error


async def measure(
    asks: Iterable[Ask],
    endpoint: Endpoint,
    table: Table,
    in_flight: int,
    on_step: Callable[[Tally], None],
) -> Tally:
    """Asks what the table does not have yet. Raises the endpoint's errors when it is gone for good.

    An answer is in the table before the next question of its place is sent: a process killed at any moment loses no
    more than the questions in flight. The asks of one prompt come one after another, so that a server that keeps
    prefixes reads a prompt once.
    """
    tally = Tally()
    left = [ask for ask in asks if ask not in table]
    waiting = iter([list(same) for _, same in groupby(left, key=lambda ask: ask.question.prompt_id)])

    async def worker(share: Iterator[list[Ask]]) -> None:
        for ask in chain.from_iterable(share):
            await _take(ask, endpoint, table, tally)
            on_step(tally)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(worker(waiting))
    except* Exception as errors:
        raise _first(errors) from None
    return tally


async def _take(ask: Ask, endpoint: Endpoint, table: Table, tally: Tally) -> None:
    try:
        answer = await endpoint.answer(ask)
    except ConfigError:
        raise
    except InvalidArgument as error:
        tally.refuse(error)
    else:
        table.append(row_of(ask, answer))
        tally.take(answer)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
