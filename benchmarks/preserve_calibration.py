"""Two published runs of PreServe's artifact beside the simulator's: least requests, and least utilisation.

Published: four vLLM 0.6 with Llama-2-7B on 48 GB cards that nobody names, ShareGPT, Poisson at 9.5/s, 2,800 requests,
true lengths (`experiments/motivation_study/case_{1,2}/metrics.json` of stephen-tju/PRISM, MIT). Utilisation is polled
every 2 s. The profile A40/Llama-2-7B/tp1 takes the iteration of an idle engine and the time of its prompts from single
requests at the start of the first run; its time per decoding sequence is the one constant that is fitted to a figure of
that run, the mean time between tokens. The second run judges.

What cannot match: the lengths are those of `benchmarks.chat_prompts`, as ShareGPT is not at hand; and the tail of the
published first tokens. In the raw run tokens of one request come in clumps, up to thirty within a millisecond after
seconds of silence, which is the client or server standing still and no iteration of an engine.

Run: PYTHONPATH=services:clients/python python -m benchmarks.preserve_calibration [--quick] [--json FILE]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks import common
from benchmarks.live import ROOT
from forebay.core.units import US_PER_S
from forebay.simulator.config import EngineConfig, Group, ObservationConfig, PolicyConfig, World
from forebay.simulator.make_workload import make
from forebay.simulator.parts import Scenario
from forebay.simulator.results import RunResult
from forebay.simulator.run import simulate
from forebay.simulator.trace_config import TraceConfig

PROMPTS = ROOT / ".forebay" / "prompts" / "chat.jsonl"
PROFILE = "A40/Llama-2-7B/tp1"
QPS, REQUEST_COUNT, INSTANCE_COUNT = 9.5, 2_800, 4
KV_TOKENS, SEATS, BATCH_TOKENS, POLL_S, WATERMARK_BLOCKS = 36_896, 128, 8_192, 2.0, 23
"""Limits of the artifact; vLLM 0.6 keeps one block in a hundred free when it admits a prompt."""
FRONTEND_MS = 20.0
"""What client and server add to the first token of a request on an idle engine."""

OPEN: Mapping[str, object] = {"admission": "open", "puller": "unlimited"}
ROUTERS: Mapping[str, Mapping[str, object]] = {
    "least requests (fitted to)": {**OPEN, "router": "least_requests"},
    "least utilisation (judged by)": {
        **OPEN,
        "router": "llm_d",
        "router_parameters": {"queue_weight": 0.0, "kv_weight": 1.0, "count_unseen": False},
    },
}
POINTS = (
    "TTFT mean s",
    "p50",
    "p80",
    "p90",
    "p99",
    "E2E mean s",
    "p50",
    "p90",
    "p99",
    "TBT mean ms",
    "p50",
    "p90",
    "p99",
    "done /s",
)
PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "least requests (fitted to)": (
        *(0.754, 0.120, 0.347, 2.50, 9.37),
        *(20.98, 16.27, 49.2, 78.4),
        *(71.0, 73.3, 82.2, 93.1),
        8.56,
    ),
    "least utilisation (judged by)": (
        *(1.341, 0.157, 0.442, 3.48, 20.23),
        *(21.50, 16.81, 48.9, 78.2),
        *(72.7, 74.5, 86.0, 107.3),
        8.41,
    ),
}
TBT_MEAN = POINTS.index("TBT mean ms")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is run."""

    prompts: Path
    seeds: Sequence[int]


def world(profile: str = PROFILE) -> World:
    """The artifact's four engines; the fleet is read as often as its router polls."""
    return World(
        groups=(
            Group(
                "llama-2-7b",
                profile,
                instances_initial=INSTANCE_COUNT,
                instances_min=INSTANCE_COUNT,
                instances_max=INSTANCE_COUNT,
            ),
        ),
        engine=EngineConfig(
            max_seqs=SEATS,
            max_batch_tokens=BATCH_TOKENS,
            kv_tokens=KV_TOKENS,
            chunked_prefill=False,
            watermark_blocks=WATERMARK_BLOCKS,
            frontend_ms=FRONTEND_MS,
        ),
        observation=ObservationConfig(scrape_s=POLL_S),
    )


def points(result: RunResult) -> tuple[float, ...]:
    """The figures of a run, in the order of POINTS; of finished requests."""
    rows = result.requests
    done = rows.status == 0
    ttft_s = (rows.first_us - rows.arrival_us)[done] / US_PER_S
    e2e_s = (rows.finish_us - rows.arrival_us)[done] / US_PER_S
    tbt_ms = 1e3 * (e2e_s - ttft_s) / np.maximum(rows.output_tokens[done] - 1, 1)
    span_s = (rows.finish_us[done].max() - rows.arrival_us.min()) / US_PER_S
    return (
        *(float(ttft_s.mean()), *np.quantile(ttft_s, (0.5, 0.8, 0.9, 0.99)).tolist()),
        *(float(e2e_s.mean()), *np.quantile(e2e_s, (0.5, 0.9, 0.99)).tolist()),
        *(float(tbt_ms.mean()), *np.quantile(tbt_ms, (0.5, 0.9, 0.99)).tolist()),
        float(done.sum() / span_s),
    )


def simulated(plan: Plan, scheduler: Mapping[str, object]) -> tuple[float, ...]:
    """The figures of a router, as means over the seeds."""
    here = world()
    found = []
    for seed in plan.seeds:
        trace = TraceConfig(
            generator="poisson",
            options={"rate_per_s": QPS, "duration_s": 1.3 * REQUEST_COUNT / QPS},
            prompts=str(plan.prompts),
            limit=REQUEST_COUNT,
        )
        policy = PolicyConfig("published", scheduler=scheduler, predictor={"length": "clairvoyant"})
        found.append(points(simulate(Scenario(make(trace, here, seed, 1.0), here, policy, seed))))
    return tuple(np.mean(found, axis=0).tolist())


def error_of(ours: float, published: float) -> float:
    """How far ours is off, in percent of what is published."""
    return 100 * (ours / published - 1)


@click.command(help="Set two published runs of PreServe's artifact beside the simulator's.")
@click.option(
    "--prompts", type=click.Path(path_type=Path, dir_okay=False), default=PROMPTS, help="The file of prompts."
)
@common.options
def main(prompts: Path, quick: bool, json_path: str | None) -> None:
    if not prompts.is_file():
        raise click.ClickException(f"there is no {prompts}; make it with: python -m benchmarks.chat_prompts")
    report = common.Report("preserve_calibration", quick)
    plan = Plan(prompts, (1,) if quick else (1, 2, 3, 4, 5))
    for name, scheduler in ROUTERS.items():
        ours, published = simulated(plan, scheduler), PUBLISHED[name]
        errors = [error_of(*pair) for pair in zip(ours, published, strict=True)]
        rows: list[list[common.Cell]] = [
            ["published", *(round(value, 3) for value in published)],
            [f"simulated, {len(plan.seeds)} seeds", *(round(value, 3) for value in ours)],
            ["off by %", *(round(value, 1) for value in errors)],
        ]
        report.table(f"{name}: four engines, {QPS}/s, {REQUEST_COUNT} requests", ("", *POINTS), rows)
        key = "fitted" if "fitted" in name else "judged"
        report.figures[f"{key}_tbt_mean_percent"] = errors[TBT_MEAN]
        report.figures[f"{key}_e2e_mean_percent"] = errors[POINTS.index("E2E mean s")]
    report.close(json_path)


if __name__ == "__main__":
    main()
