"""Our own request log goes out and comes back, and says what nobody can know."""

from dataclasses import replace
from pathlib import Path

import pytest

from forebay.core.errors import ConfigError
from forebay.core.metrics import RequestRecord, RequestStatus
from forebay.core.values import LengthQuantiles, SloClass
from forebay.simulator.traces import guess, read
from forebay.simulator.traces.requestlog import to_line

FIRST = RequestRecord(
    request_id="r1",
    model="llama",
    arrival_us=1_700_000_000_000_000,
    status=RequestStatus.OK,
    slo_class=SloClass.INTERACTIVE_FAST,
    tenant="acme",
    application="chat",
    region="eu",
    prompt_tokens=100,
    response_tokens=40,
    predicted_length=LengthQuantiles(10, 30, 60, 90),
    ttft_us=80_000,
)


def log(folder: Path, *records: RequestRecord) -> Path:
    path = folder / "requests.jsonl"
    path.write_text("".join(to_line(record) + "\n" for record in records))
    return path


def later(record: RequestRecord, us: int, **changes: object) -> RequestRecord:
    return replace(record, arrival_us=record.arrival_us + us, **changes)  # type: ignore[arg-type]


def test_a_record_comes_back_with_all_that_matters(tmp_path: Path) -> None:
    second = later(FIRST, 250_000, model="qwen", slo_class=SloClass.DEFERRED, tenant="", region="", application="")
    path = log(tmp_path, FIRST, second)
    workload = read(guess(path), path)
    assert workload.arrival_us.tolist() == [0, 250_000]
    assert (workload.prompt_tokens.tolist(), workload.output_tokens.tolist()) == ([100, 100], [40, 40])
    assert workload.slo_class.tolist() == [SloClass.INTERACTIVE_FAST, SloClass.DEFERRED]
    assert (workload.models, workload.tenants) == (("llama", "qwen"), ("acme", "default"))
    assert (workload.regions, workload.applications) == (("eu", "local"), ("chat", ""))
    assert workload.notes == ()


def test_an_answer_that_was_cut_is_cut_there_again(tmp_path: Path) -> None:
    workload = read("requestlog", log(tmp_path, FIRST, later(FIRST, 1, censored=True)))
    assert workload.output_tokens_max.tolist() == [0, 40]


def test_an_unanswered_request_takes_the_length_of_its_nearest_kin(tmp_path: Path) -> None:
    lost = later(FIRST, 3, status=RequestStatus.REJECTED, response_tokens=0)
    path = log(
        tmp_path,
        FIRST,
        later(FIRST, 1, application="code", response_tokens=7),
        later(FIRST, 2, model="qwen", response_tokens=9),
        lost,
        replace(lost, application="code"),
        replace(lost, application="story"),
        replace(lost, model="new"),
    )
    for seed in range(20):
        workload = read("requestlog", path, seed=seed)
        assert workload.output_tokens[3:5].tolist() == [40, 7]
        assert workload.output_tokens[5] in (40, 7)
        assert workload.output_tokens[6] in (40, 7, 9)
    assert workload.notes == ("requests.jsonl: 4 requests without a full answer take the length of another, seed 19",)


def test_unanswered_requests_may_be_left_out_or_taken_as_they_came(tmp_path: Path) -> None:
    path = log(tmp_path, FIRST, later(FIRST, 1, status=RequestStatus.CANCELLED, response_tokens=3))
    assert len(read("requestlog", path, unanswered="drop")) == 1
    assert read("requestlog", path, unanswered="keep").output_tokens.tolist() == [40, 3]


def test_a_log_without_any_answer_says_what_to_do(tmp_path: Path) -> None:
    path = log(tmp_path, replace(FIRST, status=RequestStatus.FAILED, response_tokens=0))
    with pytest.raises(ConfigError, match='unanswered = "keep"'):
        read("requestlog", path)
    with pytest.raises(ConfigError, match="unanswered must be one of"):
        read("requestlog", path, unanswered="maybe")
