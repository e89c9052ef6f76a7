"""Hits are settled on arrival, and what a prompt adds is known once its first token has appeared."""

from forebay.simulator.kernel.reference import ReferenceKernel
from forebay.simulator.profiles import profile_of
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.prefixes import Prefixes
from tests.unit.simulator.shell.worlds import workload, world


class Clockwork(ReferenceKernel):
    """First tokens appear when the test says so."""

    def __init__(self, row_count: int) -> None:
        super().__init__(row_count)
        self.first: dict[int, int] = {}

    def first_ps(self, row: int) -> int:
        return self.first.get(row, -1)


def made(*blocks: list[int], capacity_tokens: int = 1_000) -> tuple[Prefixes, Clockwork]:
    load = workload([0] * len(blocks), 40, blocks=list(blocks), block_tokens=10)
    kernel = Clockwork(len(blocks))
    return Prefixes(Context(load, world(engine={"prefix_cache_tokens": capacity_tokens}), kernel, profile_of)), kernel


def test_every_instance_remembers_its_own_prompts() -> None:
    prefixes, kernel = made([1, 2], [1, 2], [1, 3])
    assert prefixes.reached(0, 0) == 0
    kernel.first[0] = 5
    assert prefixes.reached(1, 0) == 20
    assert prefixes.reached(2, 1) == 0


def test_a_prompt_that_is_still_read_is_not_known() -> None:
    prefixes, _ = made([1, 2], [1, 2])
    prefixes.reached(0, 0)
    assert prefixes.reached(1, 0) == 0


def test_what_was_read_last_is_kept_longest() -> None:
    prefixes, kernel = made([1], [2], [1], [2], capacity_tokens=10)
    prefixes.reached(0, 0)
    prefixes.reached(1, 0)
    kernel.first.update({0: 9, 1: 5})
    assert prefixes.reached(2, 0) == 10
    assert prefixes.reached(3, 0) == 0


def test_what_a_request_read_before_it_left_is_known() -> None:
    prefixes, kernel = made([1], [1], [1])
    prefixes.reached(0, 0)
    prefixes.reached(1, 1)
    kernel.first[0] = 5
    prefixes.left(0)
    prefixes.left(1)
    kernel.first.clear()
    assert prefixes.reached(2, 0) == 10
    assert prefixes.reached(2, 1) == 0


def test_without_a_cache_nothing_is_a_hit() -> None:
    prefixes, kernel = made([1], [1], capacity_tokens=0)
    prefixes.reached(0, 0)
    kernel.first[0] = 5
    assert prefixes.reached(1, 0) == 0
