"""What one instance is said to take (core/capacity.py) against where the simulator says that its promises break.

The simulated knee is the highest Poisson rate at which 99 % of the requests keep their promises: one instance, requests
drawn from the mix with replacement, the first tenth of a run left out, bisected to 1 %. The formulas were made
while looking at the first table. The second has other GPUs, models, lengths and promises; of it only the number of
points that stand for a mix was chosen.

Run: PYTHONPATH=services:clients/python python -m benchmarks.capability [--quick] [--json FILE]
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist, median

import click
import numpy as np
import numpy.typing as npt

from benchmarks import common
from benchmarks.simulator_speed import AZURE, TRACE
from forebay.core.capacity import Engine, Mix, ServiceLevel, engine_of
from forebay.core.instance import EngineFlags
from forebay.simulator.capability import Effort, Requests, measure
from forebay.simulator.knee import Traffic, Trial, find_knee
from forebay.simulator.profiles import profile_of
from forebay.simulator.traces import read

Ints = npt.NDArray[np.int64]
Lengths = tuple[Ints, Ints]

COLUMNS = (
    *("profile", "lengths", "TTFT s", "ITL ms", "knee /s", "said /s", "error %", "limit"),
    *("batch", "said", "ITL ms", "said", "TTFT s", "said"),
)
DRAWN = 20_000
SERVEGEN = TRACE / "servegen_m-small_rates_day01-10.parquet"


@dataclass(frozen=True, slots=True)
class Case:
    """One profile under one mix and promise."""

    profile: str
    mix: str
    level: ServiceLevel


def _lognormal(p50: float, p90: float, most: int, draws: np.random.Generator) -> Ints:
    sigma = np.log(p90 / p50) / NormalDist().inv_cdf(0.9)
    lengths: Ints = np.clip(np.rint(p50 * np.exp(sigma * draws.standard_normal(DRAWN))), 1, most).astype(np.int64)
    return lengths


@cache
def mixes() -> Mapping[str, Lengths]:
    """Pairs of prompt and response by name; those of public traces only where these are at hand."""
    draws = np.random.default_rng(0)

    def made(prompt: tuple[float, float, int], response: tuple[float, float, int]) -> Lengths:
        return _lognormal(*prompt, draws), _lognormal(*response, draws)

    found = {
        "chat": made((120, 900, 4_096), (200, 700, 2_048)),
        "code": made((1_500, 6_000, 14_000), (13, 90, 600)),
        "reasoning": made((300, 1_200, 4_096), (900, 4_000, 12_000)),
        "fixed": (np.full(DRAWN, 1_024), np.full(DRAWN, 256)),
        "summaries": made((3_000, 8_000, 16_000), (120, 250, 500)),
        "titles": made((400, 1_500, 8_000), (60, 120, 300)),
    }
    if AZURE.exists():
        trace = read("azure", AZURE)
        found["Azure conv"] = trace.prompt_tokens, np.maximum(trace.output_tokens, 1)
    if SERVEGEN.exists():
        drawn = read("servegen", SERVEGEN, end_s=21_600.0, scale=0.05)
        found["ServeGen m-small"] = drawn.prompt_tokens, np.maximum(drawn.output_tokens, 1)
    return found


SEEN = [
    Case(profile, mix, level)
    for profile in ("A100-80G/Llama-3-8B/tp1", "H100/Llama-3-8B/tp1", "A40/Llama-2-7B/tp1", "H100/Llama-3-70B/tp4")
    for mix in ("Azure conv", "chat", "code", "reasoning", "fixed")
    for level in (ServiceLevel(1.0, 0.05), ServiceLevel(2.0, 0.1), ServiceLevel(10.0, 0.2))
]
ARTIFACT = "A40/Llama-2-7B/tp1"
ARTIFACT_LIMITS = {"max_seqs": 128, "max_batch_tokens": 8_192, "kv_tokens": 36_896}
ARTIFACT_FLAGS = EngineFlags(chunked_prefill=False, watermark_blocks=23)
ARTIFACT_RATES = {"conversation": (1_900, 205, 2_100), "code": (3_400, 215, 3_500)}
"""Prompt, response and total tokens a second of one instance: constants in PreServe's artifact, for its two traces."""
ARTIFACT_LEVEL = ServiceLevel(ttft_s=2.0, itl_s=0.1, e2e_s=80.0)
HELD_OUT = [
    Case(profile, mix, level)
    for profile in (
        "H200/Qwen2.5-32B/tp2",
        "RTX4090/Llama-3-8B/tp1",
        "A100-80G/Llama-2-13B/tp1",
        "L40S/Qwen2.5-14B/tp1",
    )
    for mix in ("ServeGen m-small", "summaries", "titles")
    for level in (ServiceLevel(0.6, 0.04), ServiceLevel(3.0, 0.08), ServiceLevel(5.0, 0.15), ServiceLevel(e2e_s=40.0))
]


@click.command()
@common.options
def main(quick: bool, json_path: str | None) -> None:
    """Prints both tables, PreServe's constants, and how long one answer takes."""
    report = common.Report("capability", quick)
    count = 3_000 if quick else 20_000
    for key, title, cases in (
        ("seen", "Mixes that the formulas were made with", SEEN),
        ("held_out", "Held out", HELD_OUT),
    ):
        _table(report, key, title, cases[:: 6 if quick else 1], count)
    if AZURE.exists():
        _artifact(report, count)
    _speed(report)
    report.close(json_path)


def _table(report: common.Report, key: str, title: str, cases: Sequence[Case], count: int) -> None:
    rows, errors = [], []
    for case in cases:
        if case.mix not in mixes():
            continue
        row, error = _row(case, count)
        rows.append(row)
        errors += [] if error is None else [error]
    report.table(f"{title}; {count} requests a run", COLUMNS, rows)
    sizes = sorted(map(abs, errors))
    report.figures[f"{key}_error_median_pct"] = median(sizes)
    report.figures[f"{key}_error_p90_pct"] = float(np.quantile(sizes, 0.9))
    report.figures[f"{key}_error_max_pct"] = sizes[-1]
    report.figures[f"{key}_bias_pct"] = float(np.mean(errors))


def _row(case: Case, count: int) -> tuple[list[common.Cell], float | None]:
    engine, (prompts, responses) = engine_of(case.profile), mixes()[case.mix]
    mix = Mix.of_samples(prompts, responses)
    said = engine.capacity(mix, case.level)
    traffic = [Traffic.poisson(prompts, responses, count, seed=1)]
    knee = find_knee(engine.profile, EngineFlags(), traffic, case.level, max(said.requests_per_s, 0.05))
    promised = [case.level.ttft_s or "", 1e3 * case.level.itl_s or f"E2E {case.level.e2e_s:g} s"]
    head: list[common.Cell] = [case.profile, case.mix, *promised, knee.requests_per_s, said.requests_per_s]
    if not knee.requests_per_s:
        return [*head, "", said.limit, *[""] * 6], None
    error = 100 * (said.requests_per_s / knee.requests_per_s - 1)
    at, seen = engine.load_at(mix, knee.requests_per_s, case.level), _nearest(knee.trials, knee.requests_per_s)
    pairs: list[common.Cell] = [
        *(seen.batch_mean, at.batch_mean, 1e3 * seen.itl_mean_s, 1e3 * at.itl_s, seen.ttft_mean_s, at.ttft_s)
    ]
    return [*head, f"{error:+.1f}", said.limit, *pairs], error


def _nearest(trials: Sequence[Trial], rate: float) -> Trial:
    return min(trials, key=lambda one: abs(one.requests_per_s - rate))


def _artifact(report: common.Report, count: int) -> None:
    """PreServe's constants beside our profiling of the card that the simulator has for them.

    Its traces of 2024 are not at hand, so the lengths are those of 2023's conversations, as they are and with responses
    cut to as many prompt tokens for each of the response as the constants have.
    """
    profile = profile_of(ARTIFACT, **ARTIFACT_LIMITS)
    prompts, responses = mixes()["Azure conv"]
    fits = (prompts >= 16) & (responses >= 16) & (prompts + responses <= 4_096)
    prompts, responses = prompts[fits], responses[fits]
    rows: list[list[common.Cell]] = []
    for name, (prompt, response, whole) in ARTIFACT_RATES.items():
        rows.append([f"published, {name}", prompt / response, "", prompt, response, whole])
    ratio = prompts.sum() / responses.sum()
    for wanted in (ratio, *(prompt / response for prompt, response, _ in ARTIFACT_RATES.values())):
        cut = np.maximum(np.rint(responses * ratio / wanted), 1).astype(np.int64)
        for share in (0.99, 0.9):
            level = replace(ARTIFACT_LEVEL, share=share)
            found = measure(
                profile, ARTIFACT_FLAGS, Requests(prompts, cut), level, Effort(count, (1,), heavy_share=1.0)
            )
            rates = (found.prompt_tokens_per_s, found.response_tokens_per_s, found.tokens_per_s)
            rows.append(["simulated", wanted, f"{100 * share:g}", *rates])
            report.figures[f"artifact_response_{wanted:.0f}_{100 * share:.0f}_tokens_per_s"] = rates[1]
    columns = ("rates of", "prompt/response", "in time %", "prompt tok/s", "response tok/s", "total tok/s")
    report.table("PreServe's artifact, one A40/Llama-2-7B: TTFT 2 s, 100 ms a token, 80 s", columns, rows)


def _speed(report: common.Report) -> None:
    """CPU time of one call with 256 seats, another mix each time as a planner asks."""
    engine = Engine(engine_of("A100-80G/Llama-3-8B/tp1").profile)
    prompts, responses = mixes()["chat"]
    made = [Mix.of_samples(prompts[first::50], responses[first::50]) for first in range(50)]
    spent = []
    for mix in made * 4:
        began = time.process_time()
        engine.capacity(mix, ServiceLevel(1.0, 0.05))
        spent.append(time.process_time() - began)
    p50, p99 = common.percentiles(spent, 1e3)
    report.figures |= {"call_p50_cpu_ms": p50, "call_p99_cpu_ms": p99}


if __name__ == "__main__":
    main()
