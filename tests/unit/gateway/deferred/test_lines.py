"""OpenAI's lines of result files."""

import json

from forebay.core.errors import Aborted, InvalidArgument
from forebay.gateway.deferred.lines import answer_line, error_line, parts, unanswered_line
from forebay.gateway.deferred.values import JobStatus, RequestState, Work

WORK = Work("batch_x", 7, 'the "näme"\u2028', "")


def test_an_answer_stands_under_its_status_and_its_request_id() -> None:
    line = answer_line(WORK, "r-1", b'{"text": "\\u00e4"}')
    assert (line.key, line.state) == (("batch_x", 7), RequestState.ANSWERED)
    assert parts(line) == {
        "id": "batch_req_x_7",
        "custom_id": 'the "näme"\u2028',
        "response": {"status_code": 200, "request_id": "r-1", "body": {"text": "ä"}},
        "error": None,
    }


def test_an_error_is_what_the_endpoint_would_have_answered() -> None:
    line = error_line(WORK, InvalidArgument("top_k must be at least 0", violations={"top_k": "must be at least 0"}))
    value = parts(line)
    assert line.state is RequestState.FAILED
    assert value["error"] is None
    assert value["response"]["status_code"] == 400
    assert value["response"]["body"]["error"]["param"] == "top_k"
    assert parts(error_line(WORK, Aborted("x")))["response"]["status_code"] == 502


def test_a_request_without_answer_says_why() -> None:
    expired = unanswered_line("batch_x", 7, "a", JobStatus.FINALIZING)
    cancelled = unanswered_line("batch_x", 7, "a", JobStatus.CANCELLING)
    assert (expired.state, cancelled.state) == (RequestState.EXPIRED, RequestState.CANCELLED)
    assert parts(expired)["response"] is None
    assert [parts(one)["error"]["code"] for one in (expired, cancelled)] == ["batch_expired", "batch_cancelled"]


def test_lines_are_one_line_of_ascii() -> None:
    for line in (
        answer_line(WORK, "r", b"{}"),
        error_line(WORK, Aborted("ü\n")),
        unanswered_line("b", 1, "\n", JobStatus(7)),
    ):
        assert line.text.isascii()
        assert "\n" not in line.text
        json.loads(line.text)
