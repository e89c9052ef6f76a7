"""Requests that move to another instance while they run."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.errors import ConfigError
from forebay.core.instance import EngineFlags, EngineProfile, EngineRequest, InstanceModel
from forebay.simulator.config import Group
from forebay.simulator.kernel import make_kernel
from forebay.simulator.shell.agenda import Agenda
from forebay.simulator.shell.machines import Machine
from forebay.simulator.shell.migrating import Migration, MigrationConfig, Migrations, kv_bytes_per_token
from forebay.simulator.shell.migrating_kernel import MovableKernel

MS = 10**9
PROFILE = EngineProfile(
    name="small",
    status="uncalibrated",
    iteration_ps=(0, *(MS + 1_000 * tokens for tokens in range(1, 513))),
    decode_ps=0,
    context_token_ps=0,
    prefill_ps=0,
    half_pair_fixed=0,
    prefill_token_fixed=0,
    kv_tokens=4_096,
    max_seqs=8,
    block_size=16,
)
GROUP = Group(model="m", profile="H100/Llama-3-8B/tp1")
FREE = MigrationConfig(bandwidth_gb_per_s=0.0, downtime_ms=0.0)
COPY = MigrationConfig(bandwidth_gb_per_s=1.0, downtime_ms=30.0, kv_bytes_per_token=100_000)
"""A token takes 0.1 ms, a tenth of an iteration."""


class Yard:
    """So many small instances, a clock, and the moves that ended."""

    def __init__(self, config: MigrationConfig, count: int = 3, profile: EngineProfile = PROFILE) -> None:
        self.agenda = Agenda()
        self.kernel = MovableKernel(make_kernel(64, "reference"))
        self.machines = [
            Machine(self.kernel.add(profile, EngineFlags()), f"i{number}", GROUP, profile) for number in range(count)
        ]
        self.ended: list[Migration] = []
        self.moves = Migrations(self.agenda, self.kernel, config, self.ended.append)

    def until(self, at_ps: int) -> "Yard":
        while self.agenda.next_ps <= at_ps:
            self._pass(self.agenda.next_ps)
            self.agenda.pop()()
        self._pass(at_ps)
        return self

    def _pass(self, at_ps: int) -> None:
        while self.kernel.advance(at_ps):
            pass

    def arrive(self, row: int, prompt: int, output: int, instance: int = 0, limit: int = 0) -> "Yard":
        assert self.kernel.arrive(instance, row, prompt, output, 0, limit, self.kernel.now_ps)
        return self

    def move(self, row: int, source: int = 0, destination: int = 1) -> Migration:
        migration = self.moves.start(row, self.machines[source], self.machines[destination])
        assert migration is not None
        return migration

    def outcomes(self) -> list[str]:
        return [migration.outcome for migration in self.ended]


def test_a_free_move_is_the_rest_of_the_request_on_the_other_instance_at_once() -> None:
    yard = Yard(FREE).arrive(0, 100, 50).until(10 * MS + 500)
    done = yard.kernel.generated_tokens(0)
    assert 0 < done < 50
    assert yard.move(0).outcome == "moved"
    assert yard.kernel.instance_of(0) == 1
    alone = InstanceModel(PROFILE)
    alone.advance(10 * MS + 500)
    alone.arrive(EngineRequest("r", 100, 50).rest(done, 100 + done - 1), 10 * MS + 500)
    last = alone.advance(10**13)[-1]
    yard.until(10**13)
    assert yard.kernel.finish_ps(0) == last.at_ps


def test_what_moved_is_told_of_as_one_answer() -> None:
    yard = Yard(FREE).arrive(0, 100, 50, limit=60).until(10 * MS)
    first_ps = yard.kernel.first_ps(0)
    yard.move(0)
    assert yard.kernel.first_ps(0) == first_ps > 0
    yard.until(20 * MS)
    yard.move(0, 1, 2)
    yard.until(10**13)
    assert yard.kernel.first_ps(0) == first_ps
    assert yard.kernel.generated_tokens(0) == 50
    assert yard.kernel.instance_of(0) == -1


def test_a_request_goes_on_while_its_blocks_are_copied_and_stands_still_for_the_rest() -> None:
    yard = Yard(COPY).arrive(0, 1_000, 400).until(50 * MS)
    # 1,000 tokens take two iterations of 512 tokens; then a token each millisecond and a bit.
    context = yard.kernel.context_tokens(0)
    migration = yard.move(0)
    first = (context - 1) // 16 * 16
    copied_ps = 50 * MS + first * MS // 10
    assert yard.moves.reserved_blocks(1) == -(-context // 16) + 1
    yard.until(copied_ps - 1)
    assert yard.kernel.instance_of(0) == 0
    assert yard.kernel.context_tokens(0) > context + 80
    yard.until(copied_ps)
    assert migration.down_ps == copied_ps
    assert yard.kernel.instance_of(0) == -1
    stopped = yard.kernel.generated_tokens(0)
    left = 1_000 + stopped - 1 - first
    up_ps = copied_ps + left * MS // 10 + 30 * MS
    yard.until(up_ps - 1)
    assert (yard.kernel.instance_of(0), yard.kernel.generated_tokens(0)) == (-1, stopped)
    yard.until(up_ps)
    assert yard.kernel.instance_of(0) == 1
    assert yard.outcomes() == ["moved"]
    assert yard.moves.reserved_blocks(1) == 0
    yard.until(10**13)
    assert yard.kernel.generated_tokens(0) == 400


def test_downtime_hardly_grows_with_the_length() -> None:
    def down_ps(prompt: int) -> int:
        yard = Yard(COPY).arrive(0, prompt, 500).until(20 * MS)
        migration = yard.move(0)
        while not migration.outcome:
            yard.until(yard.agenda.next_ps)
        return yard.kernel.now_ps - migration.down_ps

    assert 30 * MS <= down_ps(100) < 35 * MS
    assert 30 * MS <= down_ps(2_000) < 60 * MS


def test_long_caches_are_copied_in_several_stages() -> None:
    yard = Yard(replace(COPY, last_blocks_max=1)).arrive(0, 2_000, 500).until(20 * MS)
    migration = yard.move(0)
    yard.until(10**12)
    assert migration.outcome == "moved"
    assert migration.stage_count == 3


def test_a_copy_that_cannot_keep_up_is_given_up() -> None:
    slow = replace(COPY, last_blocks_max=1, kv_bytes_per_token=1_000_000)
    yard = Yard(slow).arrive(0, 100, 2_000).until(20 * MS)
    yard.move(0)
    yard.until(10**12)
    assert yard.outcomes() == ["too many stages"]
    assert yard.kernel.instance_of(0) == 0


def test_a_request_without_a_token_moves_at_once_and_with_nothing() -> None:
    yard = Yard(COPY, profile=replace(PROFILE, max_seqs=1)).arrive(0, 100, 50).arrive(1, 100, 50).until(5 * MS)
    assert yard.move(1).outcome == "moved"
    assert yard.kernel.instance_of(1) == 1
    yard.until(10**12)
    assert yard.kernel.generated_tokens(1) == 50


Cut = Callable[[Yard], None]


def finish(yard: Yard) -> None:
    yard.until(100 * MS)


def cancel(yard: Yard) -> None:
    assert yard.kernel.cancel(0, yard.kernel.now_ps)


def end(*numbers: int) -> Cut:
    def cut(yard: Yard) -> None:
        for number in numbers:
            yard.machines[number].serving = False
            yard.kernel.crash(number, yard.kernel.now_ps)

    return cut


def fill(yard: Yard) -> None:
    yard.arrive(9, 3_900, 100, instance=1)
    yard.until(yard.kernel.now_ps + 20 * MS)


@pytest.mark.parametrize(
    ("cut", "outcome", "instance"),
    [
        (finish, "the request is gone", -1),
        (cancel, "the request is gone", -1),
        (end(0), "the request is gone", -1),
        (end(1), "the destination is gone", 0),
        (fill, "the destination has no room", 0),
    ],
)
def test_a_move_is_aborted_when_something_comes_between(cut: Cut, outcome: str, instance: int) -> None:
    output = 60 if cut is finish else 1_000
    yard = Yard(COPY).arrive(0, 1_000, output).until(20 * MS)
    yard.move(0)
    cut(yard)
    yard.until(150 * MS)
    assert yard.outcomes() == [outcome]
    assert yard.kernel.instance_of(0) == instance


def test_a_request_that_is_evicted_stays() -> None:
    yard = Yard(replace(COPY, kv_bytes_per_token=200_000), profile=replace(PROFILE, kv_tokens=2_048))
    yard.arrive(1, 950, 600).arrive(0, 950, 600).until(20 * MS)
    yard.move(0)
    yard.until(400 * MS)
    assert yard.outcomes() == ["the request was evicted"]


@pytest.mark.parametrize(
    ("cut", "outcome", "instance"),
    [
        (cancel, "the request is gone", -1),
        (end(0), "moved", 1),
        (end(1), "the destination is gone", 0),
        (end(0, 1), "lost", -1),
    ],
)
def test_who_stands_still_goes_on_wherever_there_is_still_an_instance(cut: Cut, outcome: str, instance: int) -> None:
    yard = Yard(COPY).arrive(0, 1_000, 1_000).until(20 * MS)
    migration = yard.move(0)
    while migration.down_ps < 0:
        yard.until(yard.agenda.next_ps)
    cut(yard)
    yard.until(yard.kernel.now_ps + 100 * MS)
    assert yard.outcomes() == [outcome]
    assert yard.kernel.instance_of(0) == instance


def test_an_instance_takes_part_in_one_move_at_a_time() -> None:
    yard = Yard(COPY).arrive(0, 500, 500).arrive(1, 500, 500).arrive(2, 500, 500, instance=1).until(20 * MS)
    yard.move(0)
    first, second, third = yard.machines
    assert yard.moves.start(1, first, third) is None
    assert yard.moves.start(2, second, third) is None
    yard.until(300 * MS)
    assert yard.moves.start(1, first, third) is not None


def test_what_is_not_there_does_not_move() -> None:
    yard = Yard(FREE).arrive(0, 100, 50).until(5 * MS)
    first, second, third = yard.machines
    assert yard.moves.start(0, second, third) is None
    assert yard.moves.start(5, first, second) is None
    assert yard.moves.start(0, first, first) is None
    third.serving = False
    assert yard.moves.start(0, first, third) is None


def test_a_row_that_begins_anew_has_no_past() -> None:
    yard = Yard(FREE).arrive(0, 100, 50).until(10 * MS)
    yard.move(0)
    yard.until(20 * MS)
    yard.kernel.cancel(0, 20 * MS)
    yard.arrive(0, 100, 50)
    assert (yard.kernel.first_ps(0), yard.kernel.generated_tokens(0)) == (-1, 0)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 200), st.integers(0, 2)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 7), st.integers(0, 2)), max_size=12),
    st.sampled_from([FREE, COPY, replace(COPY, downtime_ms=3.0, last_blocks_max=1)]),
)
def test_however_requests_move_all_answers_come_whole(
    rows: list[tuple[int, int, int]], moves: list[tuple[int, int, int]], config: MigrationConfig
) -> None:
    yard = Yard(config, profile=replace(PROFILE, kv_tokens=1_024))
    for row, (prompt, output, instance) in enumerate(rows):
        yard.arrive(row, prompt, output, instance)
    for wait_ms, row, destination in moves:
        yard.until(yard.kernel.now_ps + wait_ms * MS)
        source = yard.kernel.instance_of(row)
        if source >= 0:
            yard.moves.start(row, yard.machines[source], yard.machines[destination])
    yard.until(10**13)
    for row, (_, output, _) in enumerate(rows):
        assert yard.kernel.generated_tokens(row) == output
        assert 0 < yard.kernel.first_ps(row) <= yard.kernel.finish_ps(row)
    for machine in yard.machines:
        view = yard.kernel.view(machine.number)
        assert (view.running_count, view.waiting_count, view.free_block_count) == (0, 0, view.block_count)


def test_the_cache_of_a_token_follows_from_the_model() -> None:
    assert kv_bytes_per_token("H100/Llama-3-8B/tp1") == 2 * 32 * 8 * 128 * 2
    assert kv_bytes_per_token("H100/Llama-3-70B/tp8") == 2 * 80 * 8 * 128 * 2
    with pytest.raises(ConfigError, match="give kv_bytes_per_token"):
        kv_bytes_per_token("H100/Unknown/tp1")


@pytest.mark.parametrize("fields", [{"bandwidth_gb_per_s": -1.0}, {"stages_max": 0}])
def test_costs_that_cannot_be_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        MigrationConfig(**fields)  # type: ignore[arg-type]
