"""Errors become statuses with details and come back as the same errors."""

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2

from forebay.core import errors
from forebay.wire.errors import CODES, DOMAIN, from_rpc_error, to_status


def leaves(kind: type[errors.ForebayError]) -> set[type[errors.ForebayError]]:
    found = set(kind.__subclasses__())
    return found.union(*(leaves(one) for one in found)) if found else set()


def rpc_error(error: BaseException) -> grpc.aio.AioRpcError:
    status = to_status(error)
    code = next(one for one in grpc.StatusCode if one.value[0] == status.code)
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=status.message)


def test_every_error_of_the_tree_stands_in_the_table() -> None:
    assert leaves(errors.ForebayError) == set(CODES)


def test_reasons_are_stable_upper_snake_and_their_own() -> None:
    reasons = [kind.reason for kind in CODES]
    assert all(reason == reason.upper() and " " not in reason for reason in reasons)
    assert len(set(reasons)) == len(reasons)


def test_a_status_carries_reason_domain_retry_and_violations() -> None:
    status = to_status(errors.ResourceExhausted("full", retry_after_us=1_500_000, violations={"a.b": "is 3"}))
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert status.details[2].Unpack(retry)
    assert (info.reason, info.domain) == ("RESOURCE_EXHAUSTED", DOMAIN)
    assert (bad.field_violations[0].field, bad.field_violations[0].description) == ("a.b", "is 3")
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_a_bug_is_internal_and_keeps_its_text_to_itself() -> None:
    status = to_status(ValueError("the prompt was: secret"))
    assert status.code == code_pb2.INTERNAL
    assert "secret" not in str(status)


@pytest.mark.parametrize("kind", [errors.InvalidArgument, errors.NotFound, errors.ResourceExhausted, errors.Aborted])
def test_an_error_comes_back_from_the_wire_as_itself(kind: type[errors.ForebayError]) -> None:
    sent = kind("what to do", reason="SPECIAL", retry_after_us=7, violations={"f": "v"})
    got = from_rpc_error(rpc_error(sent))
    assert (type(got), got.message, got.code, got.retry_after_us, got.violations) == (
        kind,
        "what to do",
        "SPECIAL",
        7,
        {"f": "v"},
    )


def test_a_failure_without_details_is_still_an_error_of_the_tree() -> None:
    bare = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())
    got = from_rpc_error(bare)
    assert isinstance(got, errors.Unavailable)
    assert got.message
