"""The autoscaler's configuration that a world and an arm make, and the first fleet."""

from collections.abc import Mapping

import pytest

from forebay.core.errors import ConfigError
from forebay.core.fleet import Origin
from forebay.core.values import InstanceState
from forebay.simulator.config import World
from forebay.simulator.kernel import make_kernel
from forebay.simulator.profiles import profile_of
from forebay.simulator.shell.fleet_plan import FleetPlan, make_plan
from forebay.simulator.shell.machines import Machines
from tests.unit.simulator.shell.stage import SMALL, group, slow_start, world


def plan(of: World, table: Mapping[str, object] | None = None) -> FleetPlan:
    return make_plan(of, table or {}, Machines(make_kernel(0, "reference"), SMALL, profile_of))


def test_a_group_becomes_a_scaled_model_with_the_figures_of_its_engine() -> None:
    one = plan(world(group(instances_min=2, instances_max=5, instances_initial=3, region="east"))).config.models[0]
    assert (one.name, one.region, one.instances_min, one.instances_max, one.instances_initial) == ("m", "east", 2, 5, 3)
    assert (one.concurrency_max, one.kv_tokens_max, one.concurrency_target) == (8, 4_096, 10.0)


def test_the_first_instances_are_ready_and_numbered_through() -> None:
    made = plan(world(group("a", instances_initial=2), group("b")))
    assert [member.instance.instance_id for member in made.state.members] == ["local-1/a", "local-2/a", "local-3/b"]
    assert {member.instance.state for member in made.state.members} == {InstanceState.READY}
    assert made.state.settings.ordinal == 3


def test_further_groups_of_a_model_are_registered_and_counted_in_all_bounds() -> None:
    made = plan(world(group(instances_max=4), group(instances_initial=2, region="east")))
    assert [member.origin for member in made.state.members] == [Origin.LAUNCHED, Origin.REGISTERED, Origin.REGISTERED]
    model = made.config.models[0]
    assert (model.instances_min, model.instances_initial, model.instances_max) == (3, 3, 6)
    assert [made.groups[f"local-{n}/m"].region for n in (1, 2, 3)] == ["local", "east", "east"]


def test_an_arm_chooses_policy_bounds_and_target_but_not_the_world() -> None:
    entry = {"name": "m", "instances_initial": 4, "concurrency_target": 2, "profile": "other", "region": "far"}
    made = plan(world(), {"policy": "static", "tick_s": 5, "models": [entry]})
    model = made.config.models[0]
    assert (made.config.policy, made.config.tick_s) == ("static", 5.0)
    assert (model.instances_initial, model.concurrency_target) == (4, 2.0)
    assert (model.region, model.profile) == ("local", group().profile)
    assert len(made.state.members) == 4


def test_the_first_fleet_keeps_to_the_bounds() -> None:
    fewer = {"models": [{"name": "m", "instances_max": 3}]}
    assert len(plan(world(group(instances_initial=5)), fewer).state.members) == 3
    assert len(plan(world(group(instances_initial=0, instances_min=2))).state.members) == 2


def test_a_group_that_begins_above_its_most_is_refused() -> None:
    with pytest.raises(ConfigError, match="group m: instances_initial 9, but instances_max 3"):
        plan(world(group(instances_initial=9, instances_max=3)))


def test_budget_and_patience_suffice_where_the_arm_says_nothing() -> None:
    groups = [group(f"m{n}", instances_min=30, instances_max=50) for n in range(4)]
    made = plan(world(*groups, start=slow_start(provisioning_s=280.0))).config
    assert made.instances_max == 200
    assert made.start_timeout_s == pytest.approx(3 * 304.0)
    assert plan(world(), {"instances_max": 7}).config.instances_max == 7


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"polcy": "kpa"}, "did you mean 'policy'"),
        ({"models": [{"name": "m", "instances_maxx": 3}]}, "did you mean 'instances_max'"),
        ({"models": [{"name": "n"}]}, "no group has this pool; pools of groups: m"),
        ({"models": [{"name": "m", "instances_min": 9, "instances_max": 3}]}, "instances_min <= instances_max"),
        ({"mode": "dry"}, "mode must be one of"),
    ],
)
def test_an_arm_that_makes_no_sense_is_refused(table: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        plan(world(), table)
