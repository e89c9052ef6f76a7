"""Whatever an endpoint does, an answer is in the table or asked again, and a bad endpoint is named for what it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from forebay.core.errors import ConfigError, FailedPrecondition, ForebayError, InvalidArgument, Unavailable
from forebay.train.endpoint import ATTEMPTS, Endpoint
from forebay.train.measurements import Ask, Question, Setting, Table, plan
from forebay.train.measuring import REFUSED_IN_A_ROW_MAX, Tally, measure

URL = "http://llm/v1"
QUESTIONS = [Question(f"Question {number}?", "mine", "MIT", "chat") for number in range(6)]
ASKS = list(plan(QUESTIONS, [Setting("m", 0.0, 64, "Be brief."), Setting("m", 0.7, 64)], 1, seed=1))
Handler = Callable[[httpx.Request], httpx.Response]


def completion(tokens: int = 9, finish: str = "stop") -> httpx.Response:
    usage = {"prompt_tokens": 5, "completion_tokens": tokens}
    return httpx.Response(200, json={"choices": [{"finish_reason": finish}], "usage": usage})


def endpoint(handler: Handler, key: str = "") -> Endpoint:
    return Endpoint(URL, "m", 5.0, key, backoff_s=0.0, transport=httpx.MockTransport(handler))


async def run(
    handler: Handler, path: Path, asks: list[Ask] = ASKS, in_flight: int = 3, on_step: Callable[[Tally], None] = id
) -> Tally:
    with Table(path) as table:
        async with endpoint(handler) as opened:
            return await measure(asks, opened, table, in_flight, on_step)


async def failure_of(handler: Handler) -> ForebayError:
    async with endpoint(handler) as opened:
        with pytest.raises(ForebayError) as caught:
            await opened.answer(ASKS[0])
    return caught.value


async def test_every_ask_ends_in_the_table_once(tmp_path: Path) -> None:
    tally = await run(lambda _: completion(), tmp_path / "a.csv")
    assert (tally.answered_count, tally.token_count, tally.censored_count) == (12, 108, 0)
    with Table(tmp_path / "a.csv") as table:
        assert len(table.rows) == 12
        assert all(ask in table for ask in ASKS)


async def test_a_request_carries_the_setting_and_the_seed() -> None:
    sent: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, request.headers.get("authorization"), json.loads(request.content)))
        return completion()

    async with endpoint(handler, key="secret") as opened:
        await opened.answer(ASKS[0])
    path, key, body = sent[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKS[0].question.text}],
        "temperature": 0.0,
        "max_tokens": 64,
        "seed": ASKS[0].seed,
    }


async def test_the_settings_of_a_prompt_follow_each_other_so_that_its_prefix_is_found_again(tmp_path: Path) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content)["messages"][-1]["content"])
        return completion()

    await run(handler, tmp_path / "a.csv", in_flight=1)
    assert seen == [question.text for question in QUESTIONS for _ in range(2)]


async def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def die_at_5(tally: Tally) -> None:
        if tally.answered_count == 5:
            raise Killed

    with pytest.raises(Killed):
        await run(lambda _: completion(), tmp_path / "a.csv", in_flight=1, on_step=die_at_5)
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return completion()

    tally = await run(handler, tmp_path / "a.csv")
    assert len(asked) == tally.answered_count == len(ASKS) - 5


async def test_a_cut_answer_is_counted_as_censored(tmp_path: Path) -> None:
    tally = await run(lambda _: completion(64, "length"), tmp_path / "a.csv", ASKS[:2])
    assert tally.censored_count == 2
    with Table(tmp_path / "a.csv") as table:
        assert [(row["censored"], row["finish"]) for row in table.rows] == [("true", "length")] * 2


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_may_pass_is_tried_again(tmp_path: Path, status: int) -> None:
    answers = iter([httpx.Response(status), httpx.Response(status), completion()])
    tally = await run(lambda _: next(answers), tmp_path / "a.csv", ASKS[:1])
    assert tally.answered_count == 1


async def test_an_endpoint_that_stays_away_ends_the_run_and_keeps_what_is_there(tmp_path: Path) -> None:
    calls: list[int] = []

    def handler(_: httpx.Request) -> httpx.Response:
        calls.append(1)
        if len(calls) > 4:
            raise httpx.ConnectError("connection refused")
        return completion()

    with pytest.raises(Unavailable, match=r"http://llm/v1 does not answer \(connection refused\)"):
        await run(handler, tmp_path / "a.csv", in_flight=1)
    assert len(calls) == 4 + ATTEMPTS
    with Table(tmp_path / "a.csv") as table:
        assert len(table.rows) == 4


async def test_a_prompt_that_is_refused_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        is_long = "Question 2" in request.content.decode()
        return httpx.Response(400, json={"error": {"message": "too long"}}) if is_long else completion()

    tally = await run(handler, tmp_path / "a.csv")
    assert (tally.answered_count, tally.refused_count) == (10, 2)
    assert "HTTP 400 too long" in tally.refusal


async def test_an_endpoint_that_refuses_every_prompt_ends_the_run_soon(tmp_path: Path) -> None:
    calls: list[int] = []

    def handler(_: httpx.Request) -> httpx.Response:
        calls.append(1)
        return httpx.Response(400, json={"error": "no such parameter: seed"})

    with pytest.raises(InvalidArgument, match="no such parameter: seed"):
        await run(handler, tmp_path / "a.csv", in_flight=1)
    assert len(calls) == REFUSED_IN_A_ROW_MAX


@pytest.mark.parametrize(
    ("response", "kind", "text"),
    [
        (httpx.Response(401), FailedPrecondition, "--key-env"),
        (httpx.Response(404, json={"error": {"message": "no such model"}}), ConfigError, "no such model"),
        (httpx.Response(200, text="<html>"), ConfigError, "something else than JSON"),
        (httpx.Response(200, json={"choices": [{"finish_reason": "stop"}]}), FailedPrecondition, "usage"),
        (httpx.Response(200, json=[]), FailedPrecondition, "usage"),
        (completion(3, "content_filter"), InvalidArgument, "content_filter"),
        (completion(0), InvalidArgument, "0 tokens"),
    ],
)
async def test_a_bad_answer_is_named_for_what_it_is(
    response: httpx.Response, kind: type[ForebayError], text: str
) -> None:
    error = await failure_of(lambda _: response)
    assert isinstance(error, kind)
    assert text in error.message


@pytest.mark.parametrize(
    ("served", "text"),
    [
        ({"data": [{"id": "llama"}, {"id": "gemma"}]}, "does not serve 'm'; it serves gemma, llama"),
        ({"data": []}, "it serves nothing"),
        ({"models": []}, "lists no models"),
    ],
)
async def test_a_model_that_is_not_served_is_said_before_anything_is_asked(served: object, text: str) -> None:
    async with endpoint(lambda _: httpx.Response(200, json=served)) as opened:
        with pytest.raises(ConfigError, match=text):
            await opened.check()


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x/v1", "http://[::1"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--url"):
        async with Endpoint(url, "m", 1.0, backoff_s=0.0) as opened:
            await opened.check()
