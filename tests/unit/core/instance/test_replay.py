"""A measured run of a real engine, replayed with its one host constant and without it."""

import gzip
import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path

import pytest

from forebay.core.instance import EngineFlags, EngineRequest, InstanceModel, compute_profile
from forebay.core.units import PS_PER_S

DATA = Path(os.getenv("FOREBAY_DATA", str(Path(__file__).resolve().parents[5] / "shared" / "data")))
RUN = DATA / "open" / "perf" / "vllm_bench_RTXPRO6000_Llama-3.1-8B_requests.jsonl.gz"

pytestmark = pytest.mark.skipif(not RUN.exists(), reason="the measured run is not on this machine")


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one request in seconds."""

    ttft: float
    tpot: float
    e2e: float


def measured() -> list[dict[str, float]]:
    with gzip.open(RUN, "rt") as file:
        return sorted((json.loads(line) for line in file), key=lambda entry: entry["queued_ts"])


def replay(run: list[dict[str, float]], step_s: float) -> list[Latency]:
    """The same requests at the same times through the instance model, admitted by their first chunk."""
    profile = compute_profile("RTXPRO6000", "Llama-3-8B", max_seqs=128, step_s=step_s)
    instance = InstanceModel(profile, EngineFlags(reserve_full_prompt=False))
    arrived_ps: dict[str, int] = {}
    first_ps: dict[str, int] = {}
    last_ps: dict[str, int] = {}
    events = []
    for number, entry in enumerate(run):
        now_ps = round((entry["queued_ts"] - run[0]["queued_ts"]) * PS_PER_S)
        events += instance.advance(now_ps)
        arrived_ps[str(number)] = now_ps
        instance.arrive(EngineRequest(str(number), int(entry["input_toks"]), int(entry["output_toks"])), now_ps)
    events += instance.advance(10**18)
    for event in events:
        first_ps.setdefault(event.request_id, event.at_ps)
        last_ps[event.request_id] = event.at_ps
    return [
        latency(arrived_ps[name], first_ps[name], last_ps[name], int(run[int(name)]["output_toks"]))
        for name in arrived_ps
    ]


def latency(arrived_ps: float, first_ps: float, last_ps: float, output_tokens: int, unit: float = PS_PER_S) -> Latency:
    decode = (last_ps - first_ps) / (output_tokens - 1)
    return Latency((first_ps - arrived_ps) / unit, decode / unit, (last_ps - arrived_ps) / unit)


def errors(run: list[dict[str, float]], step_s: float) -> dict[str, float]:
    """Relative errors of the means in percent, and the median absolute E2E error of a request."""
    real = [
        latency(entry["queued_ts"], entry["first_token_ts"], entry["last_token_ts"], int(entry["output_toks"]), 1.0)
        for entry in run
    ]
    modelled = replay(run, step_s)
    means = {
        name: 100
        * (statistics.mean(getattr(m, name) for m in modelled) / statistics.mean(getattr(r, name) for r in real) - 1)
        for name in ("ttft", "tpot", "e2e")
    }
    each = [abs(m.e2e / r.e2e - 1) for m, r in zip(modelled, real, strict=True)]
    return {**means, "request": 100 * statistics.median(each)}


@pytest.mark.parametrize(
    ("step_s", "published"),
    [
        (3.25e-3, {"ttft": -2.0, "tpot": 0.2, "e2e": -0.4, "request": 0.7}),
        (0.0, {"ttft": -25.0, "tpot": -10.0, "e2e": -13.9, "request": 13.7}),
    ],
)
def test_the_errors_of_the_replay_are_the_published_ones(step_s: float, published: dict[str, float]) -> None:
    assert errors(measured(), step_s) == pytest.approx(published, abs=0.06)
