"""An implementation that keeps the contract passes all checks; one with a fault fails those that look for it alone."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forebay.conformance.checks import Result, Target, Verdict, run_all
from forebay.conformance.predictor import PREDICTOR
from forebay.wire.channel import connect
from tests.integration.wrong_predictor import serving

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 30.0
RULES = sum(one.name.endswith("is refused by that field's name") for one in PREDICTOR.checks)
ORDER = "predictions come in the order of the queries, and name them"
QUANTILES = "quantiles do not decrease, and somebody is expected to say something"
LIMIT = "no quantile is above the limit of the request"
ANYBODY = "a model that nobody has heard of is answered, too"
BATCH = "the largest batch is answered whole"
FAULTS = {
    "decreasing": [QUANTILES],
    "order": [ORDER],
    "limit": [LIMIT],
    "known models only": [ANYBODY],
    "small batches": [BATCH],
    "nothing": [ORDER, QUANTILES, LIMIT, ANYBODY, BATCH],
    "nameless": ["the answer says who predicted"],
    "unknown field": ["a field of a later version of the contract does no harm"],
    "overlapping windows": ["windows follow one another and their quantiles do not decrease"],
    "once only": ["outcomes are taken, and the same ones again change nothing and fail nothing"],
    "two active": ["one model of each kind that has any is active"],
    "first page again": ["pages one by one hold the same models as one large page"],
    "activates anything": ["an unknown model is NOT_FOUND"],
    "other one": ["the model that answers may be activated again and goes on answering"],
    "shadow": ["an unknown model is NOT_FOUND"],
    "coverage": ["coverage is a share, and errors are not negative"],
    "violation left out": [
        "a request whose queries[0].model must not be empty is refused by that field's name",
        "a request whose queries[0].model has 201 bytes; at most 200 are allowed is refused by that field's name",
    ],
    "rule not checked": [
        "a request whose horizon_count is 1441; it must be at most 1440 is refused by that field's name",
        "a request whose horizon_count is 0; it must be at least 1 is refused by that field's name",
    ],
}
AREAS = {"activates anything": {"ActivateModel"}, "shadow": {"ShadowModel"}}


async def asked(*faults: str) -> list[Result]:
    async with serving(*faults) as port, connect(f"127.0.0.1:{port}") as channel:
        return [one async for one in run_all(PREDICTOR.checks, Target(channel, "m", TIMEOUT_S))]


def failed(results: list[Result]) -> list[Result]:
    return [one for one in results if one.verdict is Verdict.FAILED]


async def test_an_implementation_that_keeps_the_contract_passes() -> None:
    results = await asked()
    assert {one.verdict for one in results} == {Verdict.PASSED}
    assert len(results) == len(PREDICTOR.checks)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_fails_the_checks_that_look_for_it_and_no_others(fault: str) -> None:
    results = failed(await asked(fault))
    assert [one.check.name for one in results] == FAULTS[fault]
    assert {one.check.area for one in results} == AREAS.get(fault, {one.check.area for one in results})
    assert all(one.detail for one in results)


async def test_a_wrong_status_fails_the_check_of_every_rule() -> None:
    results = failed(await asked("wrong status"))
    assert len(results) == RULES > 50
    assert all(one.detail.startswith("INVALID_ARGUMENT was due; came FAILED_PRECONDITION") for one in results)


async def test_what_cannot_be_tried_is_skipped_and_says_why() -> None:
    others = [one for one in await asked("no history") if one.verdict is not Verdict.PASSED]
    assert [(one.check.area, one.verdict) for one in others] == [("ForecastWorkload", Verdict.SKIPPED)]
    assert "metrics does not answer" in others[0].detail


async def test_the_command_tells_what_failed_and_ends_with_1() -> None:
    async with serving("decreasing") as port:
        done = await command("--target", f"127.0.0.1:{port}", "--only", "quantile")
    assert done.returncode == 1
    assert f"failed PredictLength: {QUANTILES}" in done.stdout
    assert "for 1 prompt tokens: [30, 20, 10, 5]" in done.stdout
    assert "does not conform: 2 passed, 1 failed, 0 skipped." in " ".join(done.stdout.split())


async def test_the_command_gives_json_and_ends_with_0_where_nothing_failed() -> None:
    async with serving() as port:
        done = await command("--target", f"127.0.0.1:{port}", "--only", "quantile", "--json")
    assert done.returncode == 0
    results = json.loads(done.stdout)
    assert {one["verdict"] for one in results} == {"passed"}
    assert list(results[0]) == ["area", "name", "promise", "verdict", "detail"]


async def test_nobody_at_the_target_is_said_plainly() -> None:
    done = await command("--target", "127.0.0.1:1", "--timeout", "0.5")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: nobody answers gRPC on 127.0.0.1:1; is it started, and is the port right?")


async def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "forebay.cli", "conformance", "predictor", *arguments),
        env={**os.environ, "PYTHONPATH": f"{ROOT}/services:{ROOT}/clients/python", "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(arguments, process.returncode, output.decode(), errors.decode())
