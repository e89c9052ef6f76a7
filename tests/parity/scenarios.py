"""Small worlds in which everything happens, and the journals of runs through them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView
from forebay.core.values import SloClass
from forebay.predictor.policy.length import LENGTH_PREDICTORS
from forebay.scheduler.policy import KINDS
from forebay.simulator.config import (
    ClientConfig,
    EngineConfig,
    Fault,
    Group,
    NetworkConfig,
    ObservationConfig,
    PolicyConfig,
    Route,
    SpotConfig,
    StartConfig,
    World,
)
from forebay.simulator.run import Scenario, simulate
from forebay.simulator.shell.journal import Entry, Journal
from forebay.simulator.workload import Workload, make_workload

S = 1_000_000
PROFILE = "A100-80G/Llama-3-8B/tp1"
COUNT = 190

PARAMETERS: Mapping[str, Mapping[str, object]] = {
    "scorpio": {"virtual_count_max": 2.0},
    "slo_feasible": {"margin": 3.0},
    "token_budget": {"tokens_max": 700},
    "magnus": {"wma_max": 3_000.0},
    "abp": {"wma_max": 3_000.0},
    "glp": {"length_ratio_max": 1.2},
    "preserve_paper": {"overflow_weight": 5.0, "theta": 0.2},
}
SCALING: Mapping[str, Mapping[str, object]] = {
    "scheduled": {"periods": [{"pool": "chat", "instances": 1, "instances_max": 4}], "window_s": 4.0},
    "kpa": {"stable_window_s": 12.0, "panic_window_s": 3.0},
    "aibrix_kpa": {"stable_window_s": 12.0, "panic_window_s": 3.0, "scale_down_cooldown_s": 4.0},
    "ray_serve": {"look_back_s": 4.0, "upscale_delay_s": 2.0, "downscale_delay_s": 6.0},
    "dynamo": {"window_s": 6.0, "has_load_loop": True, "load_s": 2.0, "predictor": "kalman"},
    "wva": {"period_s": 4.0, "learns_steps": True},
    "llumnix_band": {"period_s": 4.0},
    "reactive": {"step_s": 2.0, "wait_share": 0.0},
    "sageserve_lt_i": {"period_s": 8.0, "window_s": 4.0, "lead_s": 4.0},
    "sageserve_lt_u": {
        "period_s": 8.0,
        "window_s": 4.0,
        "lead_s": 4.0,
        "step_s": 2.0,
        "out_above": 0.2,
        "in_below": 0.1,
    },
    "sageserve_lt_ua": {"period_s": 8.0, "window_s": 4.0, "lead_s": 4.0, "step_s": 2.0, "free_s": 4.0},
    "preserve_paper": {"window_s": 6.0},
    "preserve_artifact": {"window_s": 6.0, "period_s": 2.0, "freeze_s": 4.0},
}
"""Autoscalers that are quick enough for a short run."""
COMPANIONS: Mapping[tuple[str, str], Mapping[str, object]] = {
    ("router", "qlm"): {"planner": "qlm", "planner_parameters": {"size_max": 3}},
    # Only where engines get more than they have seats for do caches fill.
    ("router", "maps"): {"puller": "unlimited"},
    ("router", "forebay"): {"puller": "unlimited"},
}
"""What a policy needs beside it to do anything."""
SCHEDULER = {
    "held_count_max": 40,
    "hold_timeout_interactive_fast_s": 1.0,
    "hold_timeout_interactive_normal_s": 4.0,
    "hold_timeout_deferred_s": 12.0,
    "tenants": {"acme": {"weight": 2.0, "tokens_per_minute": 900}},
}
GATEWAY = {"first_token_timeout_s": 4.0, "inter_token_timeout_s": 3.0, "attempts_max": 2, "requests_max": 60}
AUTOSCALER = {
    "policy": "kpa",
    "tick_s": 2.0,
    "drain_quiet_s": 1.0,
    "lost_timeout_s": 6.0,
    "settled_s": 10.0,
    "backoff_s_max": 4.0,
    "start_timeout_s": 20.0,
    # What an instance of this small engine does.
    "models": [
        {"name": name, "prompt_tokens_per_s": 400.0, "response_tokens_per_s": 60.0, "tokens_per_s": 400.0}
        for name in ("chat", "code")
    ],
}


@dataclass(frozen=True, slots=True)
class Case:
    """One run: the policy that is put to the test, by kind and name."""

    kind: str
    name: str

    @property
    def policy(self) -> PolicyConfig:
        """The arm."""
        tables: dict[str, dict[str, Any]] = {
            "scheduler": dict(SCHEDULER),
            "autoscaler": dict(AUTOSCALER, parameters=SCALING["kpa"]),
            "predictor": {"length": "histogram", "history_settle_s": 1.0},
        }
        parameters = PARAMETERS.get(self.name, {})
        if self.kind == "admission":
            # Nobody waits for long where few may.
            tables["scheduler"]["held_count_max"] = 3
        match self.kind:
            case "autoscaler":
                tables["autoscaler"] |= {"policy": self.name, "parameters": SCALING.get(self.name, {})}
            case "mode":
                tables["autoscaler"]["mode"] = self.name
            case "length":
                tables["predictor"]["length"] = self.name
            case _:
                tables["scheduler"] |= {self.kind: self.name, f"{self.kind}_parameters": parameters}
                tables["scheduler"] |= COMPANIONS.get((self.kind, self.name), {})
        return PolicyConfig(name=self.name, gateway=GATEWAY, **tables)


@dataclass(frozen=True, slots=True)
class Listening(PerPool):
    """Wants to know all that a shell can find out, and scales by what runs and waits."""

    @property
    def needs(self) -> Needs:
        """Everything."""
        return Needs(10 * S, forecast_window_us=4 * S, forecast_count=2, by_demand=True, pressure=True)

    def choose(self, view: PoolView) -> Choice:
        """An instance for every three requests that instances have."""
        felt = [one.pressure for one in view.instances if one.pressure]
        count = sum(one.interactive_count + one.deferred_count for one in felt)
        inputs = {"tokens": sum(one.remaining_tokens for one in felt), "peak": sum(one.peak_share for one in felt)}
        return Choice(1 + (count + view.load.held_count) // 3, 0, f"{count} run", inputs)


PRESSED = Case("autoscaler", "listening")
"""The run whose autoscaler asks the scheduler what is on its way, and for the forecasts of regions and classes."""
FAMILIES = ("magnus", "semantic", "preserve", "finetuned")
"""Length predictors that are onnx_quantile with another model, of which none comes with Forebay for certain."""
SAME = ("vsq",)
"""Another policy under another name, for another engine."""
PLAIN = Case("router", "least_predicted_tokens")
CASES = (
    *(Case(kind, name) for kind, policies in KINDS.items() for name in policies if name not in SAME),
    *(Case("autoscaler", name) for name in AUTOSCALERS),
    *(Case("length", name) for name in (*LENGTH_PREDICTORS, "none") if name not in FAMILIES),
    Case("mode", "advisory"),
)
"""Every policy of every kind in turn."""


STATIC = {
    "batcher": "static",
    "batch_given": True,
    "batch_padding": True,
    "batch_answers_wait": True,
    "batch_delay_us": 200_000,
}


@cache
def world(is_batched: bool = False) -> World:
    """Two models in two regions; instances crash, hang, slow down, start late or not at all, and are taken away.

    The engines run static batches, or batch by themselves.
    """
    limits = {"max_seqs": 3, "max_batch_tokens": 64, "kv_tokens": 2_048, "model_tokens_max": 900, "frontend_ms": 2.0}
    engine: dict[str, Any] = {**limits, "max_seqs": 8, "model_tokens_max": 600, **STATIC} if is_batched else limits
    return World(
        groups=(
            Group("chat", PROFILE, "east", 2, 1, 4, concurrency_target=3.0, spot=True),
            Group("code", PROFILE, "west", 1, 0, 3, concurrency_target=2.0),
            Group("chat", PROFILE, "west", 1, role="batch"),
        ),
        engine=EngineConfig(**engine),
        network=NetworkConfig(local_ms=1.0, routes=(Route(("east", "west"), 35.0),), prediction_ms=3.0),
        start=StartConfig(
            provisioning_s=1.5, runtime_s=1.0, weights_gb_per_s=20.0, warm_s=1.0, variation=0.3, failure_share=0.25
        ),
        observation=ObservationConfig(scrape_s=1.0, delay_s=0.5),
        faults=(
            Fault(at_s=11.3, kind="crash", model="chat", place=0),
            Fault(at_s=16.0, kind="slow", model="chat", place=1, duration_s=12.0, factor=4.0),
            Fault(at_s=22.7, kind="hang", model="chat", place=0, duration_s=9.0),
            Fault(at_s=25.1, kind="hang", model="code", place=0, duration_s=15.0),
            Fault(at_s=44.2, kind="crash", model="code", place=0),
        ),
        spot=SpotConfig(reclaims_per_hour=60.0, notice_s=4.0),
        clients=ClientConfig(attempts_max=3),
    )


@cache
def workload() -> Workload:
    """Two bursts with a quiet time between them, sessions in a closed loop, and requests that nobody can serve."""
    rng = np.random.default_rng(7)
    bursts = [rng.uniform(0, 18, COUNT // 2), rng.uniform(18, 38, COUNT // 12), rng.uniform(38, 52, COUNT // 3)]
    arrival_us = np.sort(np.concatenate(bursts) * S).astype(np.int64)
    count = len(arrival_us)
    prompt_tokens = rng.integers(5, 300, count)
    prompt_tokens[40] = 1_000
    parents: list[Sequence[int]] = [[row - 6] if row % 13 == 7 else [] for row in range(count)]
    model = rng.choice(3, count, p=[0.64, 0.35, 0.01])
    model[3] = 2
    return make_workload(
        arrival_us,
        prompt_tokens,
        rng.integers(1, 220, count),
        names={
            "models": ("chat", "code", "poem"),
            "tenants": ("default", "acme"),
            "regions": ("east", "west"),
            "applications": ("", "helpdesk"),
        },
        texts=("Say hello", "Why is the sky blue? " * 4),
        parents=parents,
        model=model,
        slo_class=rng.choice([int(one) for one in SloClass], count),
        tenant=rng.integers(0, 2, count),
        region=rng.integers(0, 2, count),
        application=rng.integers(0, 2, count),
        text=rng.integers(-1, 2, count),
        output_tokens_max=rng.choice([0, 0, 90], count),
        deadline_us=rng.choice([0, 0, 0, 2 * S], count),
        think_us=rng.integers(0, 2 * S, count),
        program=[row % 13 for row in range(count)],
        # The prompts of a session begin alike.
        blocks=[
            [100 * (row % 13) + number for number in range(-(-tokens // 64))]
            for row, tokens in enumerate(prompt_tokens)
        ],
        block_tokens=64,
    )


def world_of(case: Case) -> World:
    """The world of a case: groupers are asked where engines are given their batches."""
    return world(case.kind == "grouper")


def scenario(case: Case) -> Scenario:
    """The run of a case."""
    return Scenario(workload(), world_of(case), case.policy, seed=3)


@cache
def journal(case: Case) -> tuple[Entry, ...]:
    """All that happened in the run of a case."""
    kept = Journal()
    simulate(scenario(case), journal=kept)
    return tuple(kept.entries)
