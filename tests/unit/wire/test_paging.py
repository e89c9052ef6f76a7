"""A page token carries its numbers, belongs to one query, and is refused otherwise."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmaas.metrics.v1 import metrics_service_pb2 as pb

from forebay.core.errors import InvalidArgument
from forebay.wire.paging import from_token, to_token

QUERY = pb.ListRequestsRequest(model="m", page_size=5)
numbers = st.integers(-(2**63), 2**63 - 1)


@given(first=numbers, second=numbers)
def test_a_token_carries_its_numbers_to_the_next_page_of_the_same_query(first: int, second: int) -> None:
    token = to_token(QUERY, first, second)
    assert from_token(pb.ListRequestsRequest(model="m", page_size=9, page_token=token), 2) == (first, second)
    assert len(token) <= 256


def test_the_first_page_has_no_numbers() -> None:
    assert from_token(QUERY, 2) == ()


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "not a token",
        "é",
        "AAAA",
        base64.urlsafe_b64encode(bytes(20)).decode(),
        to_token(pb.ListRequestsRequest(model="other"), 1, 2),
        to_token(QUERY, 1),
        to_token(QUERY, 1, 2, 3),
        to_token(QUERY, 1, 2)[:-1],
        to_token(QUERY, 1, 2) + "A",
    ],
)
def test_a_token_that_was_not_made_for_the_query_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_token(pb.ListRequestsRequest(model="m", page_token=token), 2)
    assert set(caught.value.violations) == {"page_token"}


@given(st.text(max_size=60))
def test_no_text_does_worse_than_to_be_refused(token: str) -> None:
    try:
        from_token(pb.ListRequestsRequest(model="m", page_token=token), 2)
    except InvalidArgument:
        return
