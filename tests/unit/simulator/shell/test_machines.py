"""Engines get the limits, the habits and the profile that the world says."""

import pytest

from forebay.simulator.config import EngineConfig
from forebay.simulator.kernel.reference import ReferenceKernel
from forebay.simulator.profiles import profile_of
from forebay.simulator.shell.machines import Machines
from tests.unit.simulator.shell.worlds import group, run, workload, world


def made(**engine: object) -> Machines:
    return Machines(ReferenceKernel(1), world(engine=engine).engine, profile_of)


def test_seats_are_those_of_the_group_or_of_the_engine() -> None:
    machines = made(max_seqs=8)
    assert machines.add("a/model", group()).profile.max_seqs == 8
    assert machines.add("b/model", group(concurrency_max=3)).profile.max_seqs == 3


def test_an_id_names_the_newest_engine_that_serves() -> None:
    machines = made()
    first, second = machines.add("a/model", group()), machines.add("a/model", group())
    assert machines.get("a/model") is second
    machines.end(second)
    assert machines.get("a/model") is None
    assert machines.get("b/model") is None
    assert [machine.number for machine in machines] == [first.number, second.number] == [0, 1]


def test_swapping_takes_the_time_that_its_blocks_need() -> None:
    profile = made().profile(group())
    assert EngineConfig(preemption="swap", swap_gb_per_s=16.0).flags(profile).swap_block_ps == profile.kv_transfer_ps(
        profile.block_size, 16_000_000_000
    )
    assert EngineConfig(preemption="swap", swap_gb_per_s=0.0).flags(profile).swap_block_ps == 0
    assert EngineConfig(preemption="recompute").flags(profile).swap_block_ps == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"batcher": "none"},
        {"batch_given": True, "batch_delay_us": 5},
        {"order": "none"},
        {"preemption": "none"},
        {"swap_gb_per_s": -1.0},
    ],
)
def test_habits_that_do_not_exist_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        EngineConfig(**wrong)  # type: ignore[arg-type]


def test_engines_that_heed_priorities_hear_them() -> None:
    load = workload([0, 1, 2, 3], 500, 5, slo_class=[3, 3, 3, 1])
    one = group(1, concurrency_max=1)
    unlimited = {"scheduler": {"puller": "unlimited"}, "predictor": {"length": "none"}}
    firsts = [
        run(load, world(one, engine={"order": order}), policy=unlimited).requests.first_us.argsort().tolist()
        for order in ("fcfs", "priority")
    ]
    assert firsts == [[0, 1, 2, 3], [0, 3, 1, 2]]
