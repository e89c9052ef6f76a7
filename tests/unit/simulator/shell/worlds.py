"""Small worlds for tests of the shells."""

from collections.abc import Mapping, Sequence
from typing import Any

from forebay.simulator.config import EngineConfig, Group, PolicyConfig, World
from forebay.simulator.results import RunResult
from forebay.simulator.run import Scenario, simulate
from forebay.simulator.workload import Workload, make_workload

PROFILE = "A100-80G/Llama-3-8B/tp1"
S = 1_000_000
KERNEL = "reference"


def group(count: int = 2, **given: Any) -> Group:
    """So many instances, neither more nor fewer unless told otherwise."""
    bounds = {"instances_initial": count, "instances_min": count, "instances_max": count}
    return Group(**{"model": "model", "profile": PROFILE, **bounds, **given})


def world(*groups: Group, engine: Mapping[str, Any] | None = None, **given: Any) -> World:
    """Two small instances unless told otherwise."""
    small = {"max_seqs": 8, "max_batch_tokens": 64, "kv_tokens": 2_048, **(engine or {})}
    return World(groups=groups or (group(),), engine=EngineConfig(**small), **given)


def workload(
    arrival_us: Sequence[int],
    prompt_tokens: int | Sequence[int] = 40,
    output_tokens: int | Sequence[int] = 20,
    **given: Any,
) -> Workload:
    count = len(arrival_us)
    prompts = [prompt_tokens] * count if isinstance(prompt_tokens, int) else prompt_tokens
    outputs = [output_tokens] * count if isinstance(output_tokens, int) else output_tokens
    return make_workload(arrival_us, prompts, outputs, **given)


def run(workload: Workload, world: World, **given: Any) -> RunResult:
    """The result, with every invariant checked after every event."""
    given.setdefault("check", True)
    given.setdefault("kernel", KERNEL)
    policy = PolicyConfig(name="arm", **given.pop("policy", {"predictor": {"length": "none"}}))
    return simulate(Scenario(workload, world, policy, given.pop("seed", 0)), **given)
