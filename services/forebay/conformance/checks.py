"""A check asks a service one thing that the contract promises; a suite is all of them for one service."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import grpc

from forebay.core.errors import ForebayError
from forebay.wire.errors import from_rpc_error

PREFIX = "conformance-"
"""Begins every id that a check makes up, so that what it leaves in records can be told."""


class Unmet(Exception):
    """The service did otherwise than promised; the text says what came."""


class Untried(Exception):
    """The check needs what the service does not have now; the text says what."""


@dataclass(frozen=True, slots=True)
class Target:
    """The service that is asked: a channel to it, the model to ask for, and how long a call may take."""

    channel: grpc.aio.Channel
    model: str
    timeout_s: float

    def new_id(self) -> str:
        """An id that nobody has used."""
        return f"{PREFIX}{uuid.uuid4().hex}"


Run: TypeAlias = Callable[[Target], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: `area` is the RPC, `name` the behaviour, and `promise` the sentence of the contract."""

    area: str
    name: str
    promise: str
    run: Run


class Verdict(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Result:
    """A check with its verdict; `detail` is empty for one that passed."""

    check: Check
    verdict: Verdict
    detail: str = ""


@dataclass(slots=True)
class Suite:
    """The checks of one service in the order in which they run; `service` is its full name on the wire."""

    service: str
    checks: list[Check] = field(default_factory=list)

    def check(self, area: str, name: str, promise: str) -> Callable[[Run], Run]:
        """Adds a function as a check."""

        def add(run: Run) -> Run:
            self.checks.append(Check(area, name, promise, run))
            return run

        return add


async def run_all(checks: Sequence[Check], target: Target) -> AsyncIterator[Result]:
    """Runs one after the other: a service that breaks at one of them is still asked the others."""
    for one in checks:
        yield await _run(one, target)


async def _run(check: Check, target: Target) -> Result:
    try:
        await check.run(target)
    except Unmet as error:
        return Result(check, Verdict.FAILED, str(error))
    except Untried as error:
        return Result(check, Verdict.SKIPPED, str(error))
    except grpc.RpcError as error:
        return Result(check, Verdict.FAILED, f"the call failed: {told(error)}")
    except (ValueError, LookupError) as error:
        return Result(check, Verdict.FAILED, f"the answer cannot be read: {error}")
    return Result(check, Verdict.PASSED)


def demand(holds: bool, came: str) -> None:
    """Raises Unmet with what came where something promised does not hold."""
    if not holds:
        raise Unmet(came)


async def refusal(call: Awaitable[object], code: grpc.StatusCode) -> ForebayError:
    """The error that a call must end with. Raises Unmet where it ends otherwise."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        demand(error.code() is code, f"{code.name} was due; came {told(error)}")
        return from_rpc_error(error)
    raise Unmet(f"{code.name} was due; came an answer: {str(answer)[:200] or 'an empty one'}")


async def paged(ask: Callable[[str], Awaitable[Any]], field: str, count_max: int) -> list[Any]:
    """What the pages of a list hold that begin at each token, one after the other; a list without end is left."""
    token, found = "", list[Any]()
    for _ in range(count_max + 1):
        page = await ask(token)
        found += getattr(page, field)
        token = page.next_page_token
        if not token:
            break
    return found


def told(error: grpc.RpcError) -> str:
    """An error in one line."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return str(error)
    return f"{error.code().name}: {error.details()}"
