"""Whatever happens in a small world, every invariant holds after every event, and both kernels agree."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.simulator.config import ClientConfig, Fault, NetworkConfig, World
from forebay.simulator.results import STATUSES, RunResult
from forebay.simulator.shell.journal import Journal
from forebay.simulator.workload import Workload
from tests.unit.simulator.shell.worlds import S, group, run, workload, world

MODELS = ("a", "b")


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    count = draw(st.integers(1, 30))
    arrivals = sorted(draw(st.lists(st.integers(0, 5 * S), min_size=count, max_size=count)))
    column = lambda *values: [draw(st.sampled_from(values)) for _ in range(count)]  # noqa: E731
    prompts = column(1, 30, 100, 500, 3_000)
    return workload(
        arrivals,
        prompts,
        column(1, 2, 20, 200),
        output_tokens_max=column(0, 0, 10),
        model=column(0, 1),
        slo_class=column(1, 2, 3),
        deadline_us=column(0, S // 2, 5 * S),
        think_us=column(0, S // 10),
        region=column(0, 1),
        parents=[draw(st.lists(st.integers(0, row - 1), max_size=2)) if row else [] for row in range(count)],
        blocks=[draw(st.lists(st.integers(0, 3), max_size=3 if prompt > 32 else 1)) for prompt in prompts],
        block_tokens=16,
        names={"models": MODELS, "regions": ("local", "far")},
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    fault = st.builds(
        Fault,
        at_s=st.floats(0, 6),
        kind=st.sampled_from(("crash", "hang", "slow")),
        model=st.sampled_from(MODELS),
        place=st.integers(0, 2),
        duration_s=st.floats(0, 10),
        factor=st.sampled_from((1.0, 2.0, 8.0)),
    )
    return world(
        group(draw(st.integers(1, 3)), model="a", region=draw(st.sampled_from(("local", "far")))),
        group(1, model="b", instances_max=3, concurrency_target=draw(st.sampled_from((1.0, 4.0)))),
        engine={
            "kv_tokens": draw(st.sampled_from((512, 2_048))),
            "prefix_cache_tokens": draw(st.sampled_from((0, 64))),
            "frontend_ms": draw(st.sampled_from((0.0, 3.0))),
        },
        network=NetworkConfig(
            local_ms=draw(st.sampled_from((0.0, 1.0))),
            remote_ms=draw(st.sampled_from((0.0, 80.0))),
            prediction_ms=draw(st.sampled_from((0.0, 4.0))),
        ),
        clients=ClientConfig(attempts_max=draw(st.integers(1, 3))),
        faults=tuple(draw(st.lists(fault, max_size=3))),
    )


POLICIES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "scheduler": st.fixed_dictionaries(
            {
                "router": st.sampled_from(("round_robin", "power_of_two", "least_predicted_tokens", "least_kv")),
                "orderer": st.sampled_from(("fcfs", "shortest_predicted")),
                "admission": st.sampled_from(("open", "token_budget")),
                "puller": st.sampled_from(("fixed_cap", "unlimited")),
            }
        ),
        "predictor": st.fixed_dictionaries({"length": st.sampled_from(("none", "histogram", "noisy"))}),
        "gateway": st.fixed_dictionaries({"first_token_timeout_s": st.sampled_from((1.0, 120.0))}),
    }
)


@settings(max_examples=40, deadline=None)
@given(workloads(), worlds(), POLICIES)
def test_every_invariant_holds_and_both_kernels_agree(
    load: Workload, where: World, policy: dict[str, dict[str, object]]
) -> None:
    journals = Journal(), Journal()
    first = run(load, where, policy=policy, kernel="reference", journal=journals[0])
    second = run(load, where, policy=policy, kernel="fast", journal=journals[1])
    assert_same(first, second)
    told = [[(one.part, one.event, one.now_us) for one in journal.entries] for journal in journals]
    assert told[0] == told[1]
    assert STATUSES.index("unfinished") not in first.requests.status


def assert_same(first: RunResult, second: RunResult) -> None:
    for name in first.requests.__slots__:
        np.testing.assert_array_equal(getattr(first.requests, name), getattr(second.requests, name), name)
    assert first.changes == second.changes
    assert first.counters == second.counters
    assert first.rejections == second.rejections
    assert first.end_us == second.end_us
