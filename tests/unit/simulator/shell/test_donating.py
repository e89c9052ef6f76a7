"""What drains away is lent out as a spot instance, and comes back sooner than a cold start."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from forebay.autoscaler.policy.autoscaler.base import Choice, FleetChoice, FleetView, Needs
from forebay.simulator.config import DonationConfig, Group, Stock, World
from forebay.simulator.results import FleetChange
from tests.unit.simulator.shell.stage import PROFILE, Stage, group, slow_start, world

COLD_S = 30.0


@dataclass(frozen=True, slots=True)
class Script:
    """Wants what stands in the script: from a time on, so many instances of each pool."""

    steps: Mapping[float, Mapping[str, int]]

    @property
    def needs(self) -> Needs:
        return Needs()

    def plan(self, view: FleetView) -> FleetChoice:
        now_s = view.now_us / 1e6
        counts = next(one for at_s, one in sorted(self.steps.items(), reverse=True) if at_s <= now_s)
        return FleetChoice({name: Choice(count, count, "the script") for name, count in counts.items()})


def played(of: World, steps: Mapping[float, Mapping[str, int]], until_s: float = 400.0, seed: int = 0) -> Stage:
    return Stage(of, {"drain_quiet_s": 0.0, "dwell_s": 0.0}, policy=Script(steps), seed=seed).until(until_s)


def states(stage: Stage, instance_id: str) -> list[str]:
    return [change.state for change in stage.context.changes if change.instance_id == instance_id]


def loading_s(changes: list[FleetChange], instance_id: str) -> float:
    at = {change.state: change.at_us / 1e6 for change in changes if change.instance_id == instance_id}
    return at["READY"] - at["PROVISIONING"]


def lending(*groups: Group, **fields: object) -> World:
    config = DonationConfig(**{"enabled": True, **fields})  # type: ignore[arg-type]
    return world(*groups, start=slow_start(), donation=config)


DIP = {0.0: {"m": 2}, 20.0: {"m": 1}, 100.0: {"m": 2}}


def test_what_drains_away_is_lent_out_and_its_hours_are_spot_hours() -> None:
    stage = played(lending(group(instances_initial=2)), DIP, 90.0)
    [gone] = [name for name in ("local-1/m", "local-2/m") if "DRAINING" in states(stage, name)]
    assert states(stage, gone) == ["READY", "DRAINING", "SPOT"]
    assert stage.context.counters["donations"] == 1


def test_the_next_start_takes_it_back_in_the_time_of_a_reclaim() -> None:
    stage = played(lending(group(instances_initial=2)), DIP)
    lent = next(name for name in ("local-1/m", "local-2/m") if "SPOT" in states(stage, name))
    assert states(stage, lent)[-1] == "STOPPED"
    assert loading_s(stage.context.changes, "local-3/m") == pytest.approx(65.0, abs=1.5)
    assert stage.context.counters["donation_reclaims"] == 1


def test_without_donation_nothing_is_lent_and_the_start_is_cold() -> None:
    stage = played(world(group(instances_initial=2), start=slow_start()), DIP)
    assert "SPOT" not in {change.state for change in stage.context.changes}
    assert loading_s(stage.context.changes, "local-3/m") == pytest.approx(COLD_S, abs=1.5)


def test_another_models_instance_is_redeployed_where_none_of_the_same_is_lent() -> None:
    groups = (group(instances_initial=2), group("n", instances_initial=0, instances_min=0))
    steps = {0.0: {"m": 2, "n": 0}, 20.0: {"m": 1, "n": 0}, 100.0: {"m": 1, "n": 1}}
    stage = played(lending(*groups), steps)
    assert loading_s(stage.context.changes, "local-3/n") == pytest.approx(155.0, abs=1.5)
    assert stage.context.counters["donation_redeploys"] == 1


def test_what_is_lent_in_another_region_stays_there() -> None:
    groups = (group(instances_initial=2), group("n", region="east", instances_initial=0, instances_min=0))
    steps = {0.0: {"m": 2, "n": 0}, 20.0: {"m": 1, "n": 0}, 100.0: {"m": 1, "n": 1}}
    stage = played(lending(*groups), steps)
    assert loading_s(stage.context.changes, "local-3/n") == pytest.approx(COLD_S, abs=1.5)


def test_a_refused_reclaim_is_a_cold_start() -> None:
    stage = played(lending(group(instances_initial=2), refusal_share=1.0), DIP)
    assert loading_s(stage.context.changes, "local-3/m") == pytest.approx(COLD_S, abs=1.5)


def test_reclaims_vary_around_their_mean() -> None:
    times = []
    for seed in range(6):
        stage = played(lending(group(instances_initial=2), variation=0.5), DIP, 600.0, seed)
        times.append(loading_s(stage.context.changes, "local-3/m"))
    assert len(set(times)) == 6
    assert 30 < sum(times) / 6 < 110


def test_what_is_lent_gives_way_where_the_stock_is_needed() -> None:
    groups = (group(instances_initial=2), group("n", instances_initial=0, instances_min=0))
    steps = {0.0: {"m": 2, "n": 0}, 20.0: {"m": 1, "n": 0}, 100.0: {"m": 1, "n": 1}}
    config = DonationConfig(enabled=True, refusal_share=1.0)
    stocks = (Stock(region="local", gpu=PROFILE.partition("/")[0], gpu_count=2),)
    stage = played(world(*groups, start=slow_start(), donation=config, stocks=stocks), steps)
    lent = next(name for name in ("local-1/m", "local-2/m") if "SPOT" in states(stage, name))
    assert states(stage, lent)[-1] == "STOPPED"


def test_spot_groups_are_not_lent_out() -> None:
    stage = played(lending(group(instances_initial=2, spot=True)), DIP, 90.0)
    assert stage.context.counters["donations"] == 0
