"""What the engines do in a simulated run, the live servicers and loops do too, for every policy of every kind.

Each part hears its share of the journal through its real shell and the converters of both sides, with the clock of the
journal. What its engine is told and answers is compared with the journal, all actions with all their fields, and so is
what comes out at each of its ports. docs/adr/0006 tells what this shows and what it cannot.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from forebay.autoscaler.demands import Key
from forebay.autoscaler.policy.autoscaler.base import Needs
from forebay.autoscaler.watchers import Forecaster
from forebay.core.config import from_mapping
from forebay.core.metrics import RequestRecord
from forebay.predictor.build import build_engine
from forebay.predictor.build_forecasts import build_forecasts
from forebay.predictor.config import Config as PredictorConfig
from forebay.predictor.loop import MetricsHistory
from forebay.predictor.policy.forecaster import FORECASTERS
from forebay.predictor.servicer import PredictorServicer
from forebay.predictor.traffic.learned import Learned, learn
from forebay.predictor.traffic.refit.tasks import Task
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.scheduler.policy import KINDS, choice
from forebay.simulator.oracles.predictor import forecasts_of
from forebay.simulator.shell.autoscaling_forecasts import RunForecasts
from forebay.simulator.workload import make_workload
from tests.parity import live_autoscaler, live_gateway, live_metrics, live_predictor, live_relay, live_scheduler
from tests.parity.journal_kit import Clock, Post, Replay, S, Wire, difference
from tests.parity.scenarios import CASES, PLAIN, PRESSED, Case, journal

ROUTES = ("admission", "orderer", "router", "puller", "grouper", "planner")
"""The kinds of policy that a scheduler has, but for reschedulers: nobody moves running requests live."""
REPLAYS: Sequence[tuple[ModuleType, Case]] = [
    *((live_scheduler, case) for case in CASES if case.kind in ROUTES),
    *((live_scheduler, case) for case in CASES if case == Case("length", "none")),
    *((live_autoscaler, case) for case in (*CASES, PRESSED) if case.kind in ("autoscaler", "mode")),
    (live_scheduler, PRESSED),
    *((live_predictor, case) for case in CASES if case.kind == "length" and case.name != "none"),
    *((live_gateway, case) for case in CASES if case.kind in ("admission", "mode")),
    *((live_relay, case) for case in CASES if case.kind in ("admission", "mode")),
    *((live_metrics, case) for case in CASES if case.kind in ("admission", "mode")),
]


def name_of(value: Any) -> str:
    return f"{value.kind}-{value.name}" if isinstance(value, Case) else value.__name__.rpartition("_")[2]


@pytest.mark.parametrize(("part", "case"), REPLAYS, ids=name_of)
async def test_the_live_part_does_what_the_simulated_one_did(part: ModuleType, case: Case) -> None:
    entries = journal(case)
    wanted: Replay = part.wanted(entries, case)
    found: Replay = await part.Live(case, Clock()).run(entries)
    assert wanted.told
    assert difference(wanted, found) == ""


class InProcess:
    """Fits where it is, before anybody else has a say."""

    async def fit(self, task: Task) -> Learned:
        return learn(task.policy, task.series, task.lead_max)

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("name", FORECASTERS)
async def test_forecasts_are_those_that_metrics_and_predictor_give_together(name: str) -> None:
    clock, history_s, points_max, models = Clock(), 24, 9, ("chat", "code")
    needs = Needs(forecast_window_us=2 * S, forecast_count=3, by_demand=True)
    config = PredictorConfig(
        forecaster=name,
        parameters={"seasonal": {"season_s": 12}},
        history_s=history_s,
        history_points_max=points_max,
        history_settle_s=3.0,
        forecast_deadline_s=60.0,
    )
    engine = build_engine(config)
    forecasters, settle_at = forecasts_of(config, engine, make_workload([0], [1], [1]), 0)
    simulated = RunForecasts(needs, models, forecasters, history_s, points_max, settle_at, 3 * S)
    metrics = live_metrics.Live(PLAIN, clock)
    to_metrics: Any = Wire(Post(), metrics.servicer)
    nobody: Any = None
    registry = CollectorRegistry()
    history = MetricsHistory(to_metrics, 1.0, points_max)
    forecasts = build_forecasts(config, engine, history, clock, registry, InProcess())
    servicer = PredictorServicer(engine, nobody, forecasts, registry, clock)
    to_predictor: Any = Wire(Post(), servicer)
    demands: dict[Key, None] = {}
    live = Forecaster(to_predictor, models, needs, lambda: tuple(demands), clock)
    asked_count = 0
    for entry in journal(PLAIN):
        await metrics.hear(entry)
        if entry.event == "on_event" and isinstance(entry.arguments[0].kind, RequestRecord):
            record = entry.arguments[0].kind
            simulated.reported(record)
            demands[record.model, record.region, record.slo_class] = None
        # Before 1970 there was no history.
        if entry.event == "on_tick" and entry.now_us >= history_s * S:
            clock.now_us = entry.now_us
            asked_count += 1
            found = simulated.at(entry.now_us, tuple(demands))
            assert await live() == found
            await asyncio.sleep(0)
    assert asked_count > 10
    assert len(found.demands) > 4
    for of_all in (found.models, found.demands):
        assert any(window.requests[1] for windows in of_all.values() for window in windows)


@pytest.mark.parametrize("part", [live_scheduler, live_autoscaler, live_predictor], ids=name_of)
def test_every_policy_leaves_its_own_journal(part: ModuleType) -> None:
    kinds = {live_scheduler: ROUTES, live_autoscaler: ("autoscaler", "mode"), live_predictor: ("length",)}[part]
    cases = [case for case in CASES if case.kind in kinds]
    journals = {repr([told[2] for told in part.wanted(journal(case), case).told]) for case in cases}
    assert len(journals) == len({repr(settings_of(case)) for case in cases})


def settings_of(case: Case) -> tuple[Any, ...]:
    """What makes a run another one; policies that are the default are the same run."""
    scheduler = from_mapping(SchedulerConfig, case.policy.scheduler, "scheduler")
    named: dict[str, Any] = {kind: choice(scheduler, kind).name for kind in KINDS}
    return replace(scheduler, **named), case.policy.autoscaler, case.policy.predictor


def test_the_journals_hold_every_event_question_and_action() -> None:
    entries = [entry for case in (PLAIN, Case("admission", "token_budget")) for entry in journal(case)]
    events = Counter(f"{entry.part}.{entry.event}" for entry in entries)
    assert set(events) >= {
        *(f"scheduler.on_{name}" for name in ("arrive", "progress", "finish", "resume", "fleet", "loads", "drain")),
        *("scheduler.on_wake", "scheduler.queues", "scheduler.lease_count"),
        *(f"autoscaler.on_{name}" for name in ("tick", "snapshot", "probe", "survey", "lease_count", "wake")),
        *(f"autoscaler.on_{name}" for name in ("actuated", "actuator_failed", "retired", "stopped", "deregister")),
        *("predictor.on_queries", "predictor.on_outcomes"),
        *(f"metrics.{name}" for name in ("on_fleet", "on_reading", "on_silence", "on_event", "snapshot")),
        *(f"gateway.on_{name}" for name in ("link_up", "arrive", "placed", "refused", "tokens", "failed", "finished")),
        *("gateway.on_fleet", "gateway.on_wake"),
    }
    actions = [action for entry in entries if isinstance(entry.answer, tuple) for action in entry.answer]
    assert {type(action).__name__ for action in actions} >= {
        *("Placement", "Rejected", "Retry", "WakeAt", "Observe"),
        *("Start", "Retire", "Stop", "Changed", "Decided", "Alarm"),
        *("Ask", "Attempt", "End", "Fail", "Renew", "Report", "Resume"),
    }
    reasons = {getattr(action, "reason", "") for action in actions}
    assert reasons >= {"HELD_TOO_LONG", "QUEUE_FULL", "NO_INSTANCE_READY", "TOKEN_BUDGET_EXHAUSTED", "PROMPT_TOO_LONG"}
