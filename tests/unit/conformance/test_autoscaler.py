"""A replica that does not lead may refuse what changes the fleet: that is skipped, and nothing else is."""

import grpc
import pytest
from grpc_status import rpc_status

from forebay.conformance.autoscaler import leading
from forebay.conformance.checks import Target, Untried
from forebay.core.errors import ForebayError, NotLeader, Unavailable
from forebay.wire.errors import to_status

NOBODY = Target(None, "", 1.0)  # type: ignore[arg-type]


def rpc_error(error: ForebayError) -> grpc.aio.AioRpcError:
    status = rpc_status.to_status(to_status(error))
    trailing = grpc.aio.Metadata(*status.trailing_metadata)
    return grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), trailing, status.details)


async def test_a_check_is_skipped_where_another_replica_leads() -> None:
    @leading
    async def run(target: Target) -> None:
        raise rpc_error(NotLeader("ask host-2"))

    with pytest.raises(Untried, match="another replica leads: UNAVAILABLE: ask host-2"):
        await run(NOBODY)


async def test_another_error_stays_one() -> None:
    @leading
    async def run(target: Target) -> None:
        raise rpc_error(Unavailable("the database is down"))

    with pytest.raises(grpc.aio.AioRpcError):
        await run(NOBODY)


async def test_where_the_target_leads_the_check_runs() -> None:
    asked = []

    @leading
    async def run(target: Target) -> None:
        asked.append(target)

    await run(NOBODY)
    assert asked == [NOBODY]
