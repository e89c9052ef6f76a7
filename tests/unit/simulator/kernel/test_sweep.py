"""Whole runs inside the kernel go where the scheduler's own routers would send each request."""

import random
from collections.abc import Iterator

import numpy as np
import pytest

from forebay.core.instance import EngineFlags
from forebay.core.values import LengthQuantiles, SloClass
from forebay.scheduler.policy.router import ROUTERS
from forebay.scheduler.policy.router.base import Observed, Router, RouteView
from forebay.simulator.direct_board import chosen
from forebay.simulator.kernel.backend import Plain
from forebay.simulator.kernel.base import Loads, Numbers
from forebay.simulator.kernel.draws import Pairs
from forebay.simulator.kernel.fast import ROUTES, FastKernel
from forebay.simulator.kernel.reference import ReferenceKernel
from tests.unit.simulator.kernel.kit import BACKENDS, profile

ROW_COUNT = 400
LENGTH = LengthQuantiles(1, 1, 1, 1)


class Trace:
    """Requests that come in bursts, some of which no instance can take."""

    def __init__(self, seed: int) -> None:
        draws = np.random.default_rng(seed)
        self.prompt_tokens = draws.integers(1, 60, ROW_COUNT)
        self.output_tokens = draws.integers(1, 30, ROW_COUNT)
        self.prompt_tokens[::50] = 500
        self.hit_tokens = draws.integers(0, 20, ROW_COUNT)
        self.weights = draws.integers(1, 40, ROW_COUNT)
        self.arrivals_ps = np.cumsum(draws.integers(0, 60, ROW_COUNT) * draws.integers(0, 2, ROW_COUNT))

    def load(self, kernel: FastKernel | ReferenceKernel, instance_count: int) -> None:
        for number in range(instance_count):
            kernel.add(profile(kv_tokens=400, max_seqs=4 + number), EngineFlags())
        kernel.load(self.prompt_tokens, self.output_tokens, self.hit_tokens, self.weights)


def route_view(loads: Loads, turn_index: int) -> RouteView:
    """What the scheduler would show a router, if nobody reported progress."""
    count = len(loads.in_flight_count)
    nobody, zeros = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.int64)
    return RouteView(
        instance_ids=tuple(f"i{number:04}" for number in range(count)),
        eligible=np.ones(count, dtype=np.bool_),
        eligible_count=count,
        concurrency_cap=np.full(count, 1_000, dtype=np.int32),
        in_flight_count=loads.in_flight_count,
        predicted_tokens=loads.weight,
        prompt_tokens_in_flight=loads.prompt_tokens,
        prompt_tokens_pending=loads.prompt_tokens,
        unseen_count=loads.in_flight_count,
        unseen_prompt_tokens=loads.prompt_tokens,
        observed=Observed(nobody, zeros, zeros, zeros.astype(np.float64), zeros),
        turn_index=turn_index,
        prompt_tokens=1,
        predicted_length=LENGTH,
        slo_class=SloClass.INTERACTIVE_NORMAL,
    )


def one_by_one(kernel: FastKernel | ReferenceKernel, trace: Trace, router: Router) -> Iterator[int]:
    """Where a router in plain Python sends each request; -1 where the instance refuses it."""
    turn_index = 0
    arrivals_ps = trace.arrivals_ps.tolist()
    kernel.run(arrivals_ps[0])
    for row, (now_ps, until_ps) in enumerate(zip(arrivals_ps, [*arrivals_ps[1:], arrivals_ps[-1]], strict=True)):
        loads = kernel.loads()
        index = chosen(router, route_view(loads, turn_index))
        turn_index = (index + 1) % len(loads.in_flight_count)
        yield index if kernel.place(index, row, now_ps, until_ps) else -1
    kernel.drain()


def same(ours: tuple[Numbers, ...], theirs: tuple[Numbers, ...]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize("instance_count", [1, 4, 23])
def test_compiled_routes_are_those_of_the_scheduler(kind: str, name: str, instance_count: int) -> None:
    trace = Trace(instance_count)
    swept, stepped = FastKernel(ROW_COUNT, BACKENDS[kind]()), FastKernel(ROW_COUNT, BACKENDS[kind]())
    trace.load(swept, instance_count)
    trace.load(stepped, instance_count)
    chosen = swept.sweep(trace.arrivals_ps, name, seed=0)
    assert chosen.tolist() == list(one_by_one(stepped, trace, ROUTERS[name]()))
    assert same(swept.times(), stepped.times())
    assert chosen.tolist().count(-1) == ROW_COUNT // 50
    assert (swept.times()[1] >= 0).tolist() == (chosen >= 0).tolist()


def test_the_reference_runs_an_open_loop_alike() -> None:
    trace = Trace(7)
    plain, reference = FastKernel(ROW_COUNT, Plain()), ReferenceKernel(ROW_COUNT)
    trace.load(plain, 3)
    trace.load(reference, 3)
    routes = [list(one_by_one(kernel, trace, ROUTERS["least_predicted_tokens"]())) for kernel in (plain, reference)]
    assert routes[0] == routes[1]
    assert same(plain.times(), reference.times())
    assert plain.now_ps == reference.now_ps


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("instance_count", [2, 3, 16, 17, 21, 22, 33, 100])
def test_pairs_are_those_that_pythons_own_generator_draws(kind: str, instance_count: int) -> None:
    pairs, draws = Pairs(11, instance_count, BACKENDS[kind]()), random.Random(11)
    for count in (1, 50, 1_000):
        expected = [number for _ in range(count) for number in sorted(draws.sample(range(instance_count), 2))]
        assert list(pairs.draw(count)) == expected


def test_what_cannot_be_routed_is_refused() -> None:
    kernel = FastKernel(1, Plain())
    kernel.load([1], [1])
    with pytest.raises(ValueError, match="cannot route 'round_robin' to 0 instances"):
        kernel.sweep([0], "round_robin")
    kernel.add(profile(), EngineFlags())
    with pytest.raises(ValueError, match="known: join_shortest_tokens, least_predicted"):
        kernel.sweep([0], "sticky")
