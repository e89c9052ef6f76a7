"""What is done to a workload keeps what it says it keeps, and the old workload stays as it was."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.values import SloClass
from forebay.simulator.workload import alter
from forebay.simulator.workload.arrivals import Diurnal, Poisson
from forebay.simulator.workload.base import COLUMNS, Workload, make_workload
from forebay.simulator.workload.combine import merge
from forebay.simulator.workload.programs import Programs, Sessions

S = 1_000_000
OPEN = Poisson(rate_per_s=10.0, duration_s=600.0).generate(1)
LOOP = Programs(rate_per_s=0.5, duration_s=600.0).generate(1)
SMALL = make_workload(
    [0, S, 2 * S, 3 * S],
    [100, 1_200, 300, 400],
    [10, 20, 30, 40],
    names={"models": ("a", "b"), "applications": ("chat", "code")},
    blocks=[[1], [1, 2, 3], [], [4]],
    model=[0, 1, 0, 1],
    application=[0, 1, 1, 0],
)


def asked(workload: Workload) -> Counter[tuple[int, ...]]:
    return Counter(zip(workload.prompt_tokens.tolist(), workload.output_tokens.tolist(), strict=True))


ALTERATIONS: dict[str, Callable[[Workload], Workload]] = {
    "window": lambda w: alter.window(w, 100, 400),
    "first": lambda w: alter.first(w, 50),
    "stretch": lambda w: alter.scale_load(w, 3.7),
    "thin": lambda w: alter.scale_load(w, 0.4, "copies"),
    "copies": lambda w: alter.scale_load(w, 2.5, "copies"),
    "mark": lambda w: alter.mark(w, "tenant", {"a": 1, "b": 3}),
    "mark_classes": lambda w: alter.mark_classes(w, {SloClass.INTERACTIVE_FAST: 1, SloClass.DEFERRED: 1}),
    "shuffle": lambda w: alter.shuffle_lengths(w, 60, 1),
    "cap": lambda w: alter.cap(w, 1_000),
    "cap_drop": lambda w: alter.cap(w, 1_000, "drop"),
    "rename": lambda w: alter.rename(w, "model", {"model": "llama"}),
    "only": lambda w: alter.only(w, "model", ["model"]),
    "merge": lambda w: merge([w, OPEN, w]),
}


@pytest.mark.parametrize("name", ALTERATIONS)
@pytest.mark.parametrize("workload", [OPEN, LOOP], ids=["open", "loop"])
def test_the_old_workload_stays_as_it_was_and_the_same_call_gives_the_same(name: str, workload: Workload) -> None:
    before = {column: getattr(workload, column).copy() for column in (*COLUMNS, "parents", "blocks")}
    one, other = ALTERATIONS[name](workload), ALTERATIONS[name](workload)
    for column, values in before.items():
        assert np.array_equal(getattr(workload, column), values)
        assert np.array_equal(getattr(one, column), getattr(other, column))


@pytest.mark.parametrize("name", ALTERATIONS)
def test_children_stay_with_their_own_parents(name: str) -> None:
    altered = ALTERATIONS[name](LOOP)
    child = np.repeat(np.arange(len(altered)), altered.parents_of.counts())
    assert len(child) > 0
    assert np.array_equal(altered.program[child], altered.program[altered.parents])
    assert (altered.arrival_us[child] >= altered.arrival_us[altered.parents]).all()


def test_a_window_counts_from_its_start() -> None:
    cut = alter.window(SMALL, 1, 3)
    assert cut.arrival_us.tolist() == [0, S]
    assert cut.prompt_tokens.tolist() == [1_200, 300]
    assert cut.blocks.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="no request is left"):
        alter.window(SMALL, 10, 20)
    with pytest.raises(ValueError, match="start_s < end_s"):
        alter.window(SMALL, 3, 3)


def test_a_call_whose_parent_is_cut_away_goes_too() -> None:
    chain = make_workload([0, S, 2 * S, 2 * S], [1] * 4, [1] * 4, parents=[[], [0], [1], []], program=[0, 0, 0, -1])
    assert alter.keep(chain, np.array([False, True, True, True])).program.tolist() == [-1]


def test_the_first_requests_are_the_first() -> None:
    assert alter.first(SMALL, 2).prompt_tokens.tolist() == [100, 1_200]
    assert len(alter.first(SMALL, 99)) == 4


def test_stretching_divides_all_times_and_keeps_every_request() -> None:
    fast = alter.scale_load(OPEN, 2.0)
    assert np.allclose(fast.arrival_us, OPEN.arrival_us / 2, atol=1)
    assert asked(fast) == asked(OPEN)
    assert fast.notes[-1] == "load times 2 (stretch, seed 0)"


def test_load_times_one_is_the_workload_itself() -> None:
    assert alter.scale_load(OPEN, 1.0, "copies") is OPEN


def test_thinning_keeps_a_share_in_place() -> None:
    thin = alter.scale_load(OPEN, 0.3, "copies", seed=2)
    assert len(thin) / len(OPEN) == pytest.approx(0.3, abs=0.03)
    assert set(thin.arrival_us.tolist()) <= set(OPEN.arrival_us.tolist())


def test_copies_keep_the_length_and_the_shape_of_the_day() -> None:
    day = Diurnal(rate_per_s=0.5, duration_s=86_400.0, noise=0.0).generate(1)
    more = alter.scale_load(day, 2.5, "copies", seed=1)
    hours, more_hours = (np.bincount(one.arrival_us // (3_600 * S), minlength=24) for one in (day, more))
    assert more_hours.sum() / hours.sum() == pytest.approx(2.5, abs=0.02)
    assert np.corrcoef(hours, more_hours)[0, 1] > 0.99
    assert more.arrival_us[-1] <= day.arrival_us[-1]


def test_copies_share_no_prefix_and_no_program() -> None:
    two = alter.scale_load(LOOP, 2.0, "copies", seed=1)
    assert len(two) == 2 * len(LOOP)
    assert len(np.unique(two.program)) == 2 * len(np.unique(LOOP.program))
    assert len(np.unique(two.blocks)) == 2 * len(np.unique(LOOP.blocks))


def test_whole_programs_are_thinned() -> None:
    thin = alter.scale_load(LOOP, 0.5, "copies", seed=1)
    sizes = Counter(LOOP.program.tolist())
    assert 0 < len(thin) < len(LOOP)
    assert sorted(Counter(thin.program.tolist()).values()) == sorted(
        sizes[program] for program in np.unique(thin.program).tolist()
    )


def test_names_are_drawn_by_share_and_one_for_a_program() -> None:
    marked = alter.mark(LOOP, "region", {"eu": 1, "us": 3}, seed=1)
    of_program = {(program, region) for program, region in zip(marked.program, marked.region, strict=True)}
    assert len(of_program) == len(np.unique(LOOP.program))
    drawn = alter.mark(OPEN, "tenant", {"small": 1, "large": 3}, seed=1)
    assert drawn.tenants == ("small", "large")
    assert drawn.tenant.mean() == pytest.approx(0.75, abs=0.02)
    assert drawn.notes[-1] == "tenant drawn: small 25%, large 75%, seed 1"


def test_a_name_with_no_share_is_never_drawn() -> None:
    drawn = alter.mark(OPEN, "model", {"a": 0.0, "b": 1.0, "c": 0.0})
    assert set(drawn.model.tolist()) == {1}


def test_classes_come_with_their_deadlines() -> None:
    marked = alter.mark_classes(OPEN, {SloClass.DEFERRED: 1, SloClass.INTERACTIVE_FAST: 1}, {SloClass.DEFERRED: 60.0})
    deferred = marked.slo_class == SloClass.DEFERRED
    assert deferred.mean() == pytest.approx(0.5, abs=0.03)
    assert set(marked.deadline_us[deferred].tolist()) == {60 * S}
    assert set(marked.deadline_us[~deferred].tolist()) == {0}


@given(st.integers(0, 50), st.sampled_from([1.0, 7.5, 60.0, 1e9]))
def test_shuffling_keeps_arrivals_and_the_tokens_of_each_window(seed: int, window_s: float) -> None:
    shuffled = alter.shuffle_lengths(OPEN, window_s, seed)
    assert np.array_equal(shuffled.arrival_us, OPEN.arrival_us)
    windows = OPEN.arrival_us // round(window_s * S)
    for column in ("prompt_tokens", "output_tokens"):
        one, other = (np.bincount(windows, getattr(w, column)) for w in (OPEN, shuffled))
        assert np.array_equal(one, other)
    assert asked(shuffled) == asked(OPEN)


def test_shuffling_moves_what_is_asked_as_a_whole_and_within_a_model() -> None:
    orders = set()
    whole = {(100, 10, 0, (1,)), (1_200, 20, 1, (1, 2, 3)), (300, 30, 1, ()), (400, 40, 0, (4,))}
    for seed in range(60):
        shuffled = alter.shuffle_lengths(SMALL, 10, seed)
        blocks = [tuple(shuffled.blocks[shuffled.block_start[row] : shuffled.block_start[row + 1]]) for row in range(4)]
        columns = (shuffled.prompt_tokens, shuffled.output_tokens, shuffled.application)
        assert set(zip(*(column.tolist() for column in columns), blocks, strict=True)) == whole
        assert {shuffled.prompt_tokens[0], shuffled.prompt_tokens[2]} == {100, 300}
        orders.add(tuple(shuffled.prompt_tokens.tolist()))
    assert len(orders) == 4


def test_shuffling_leaves_the_calls_of_programs_as_they_are() -> None:
    assert np.array_equal(alter.shuffle_lengths(LOOP, 60, 1).prompt_tokens, LOOP.prompt_tokens)


def test_a_cap_shortens_the_prompt_first_and_its_blocks_with_it() -> None:
    capped = alter.cap(SMALL, 420)
    assert capped.prompt_tokens.tolist() == [100, 400, 300, 380]
    assert capped.output_tokens.tolist() == SMALL.output_tokens.tolist()
    assert capped.blocks.tolist() == [1, 1, 4]
    tiny = alter.cap(SMALL, 25)
    assert tiny.prompt_tokens.tolist() == [15, 5, 1, 1]
    assert tiny.output_tokens.tolist() == [10, 20, 24, 24]
    assert capped.notes == ("2 requests of more than 420 tokens shortened",)


def test_a_cap_may_leave_long_requests_out() -> None:
    assert alter.cap(SMALL, 420, "drop").prompt_tokens.tolist() == [100, 300]
    assert alter.cap(SMALL, 420, "drop").notes == ("2 requests of more than 420 tokens left out",)
    assert alter.cap(SMALL, 9_999).notes == ()


def test_prompts_are_dealt_evenly_with_their_own_lengths() -> None:
    texts, prompts, outputs = ["a", "b", "c"], [1, 2, 3], [10, 20, 30]
    paired = alter.attach_prompts(OPEN, texts, prompts, outputs, ["x", "y", "x"], seed=1)
    assert np.array_equal(paired.arrival_us, OPEN.arrival_us)
    assert np.array_equal(paired.prompt_tokens, paired.text + 1)
    assert np.array_equal(paired.output_tokens, paired.prompt_tokens * 10)
    assert [paired.applications[one] for one in paired.application[:5]] == [
        {0: "x", 1: "y", 2: "x"}[one] for one in paired.text[:5].tolist()
    ]
    counts = Counter(paired.text.tolist()).values()
    assert max(counts) - min(counts) <= 1
    assert "no public set has production arrivals and text together" in paired.notes[-1]
    assert paired.texts == ("a", "b", "c")


def test_prompts_are_not_attached_to_a_closed_loop() -> None:
    with pytest.raises(ValueError, match="closed loop"):
        alter.attach_prompts(LOOP, ["a"], [1], [1])


def test_merged_workloads_keep_names_apart_from_numbers() -> None:
    other = alter.rename(SMALL, "model", {"a": "c"})
    mixed = merge([SMALL, other])
    assert mixed.models == ("a", "b", "c")
    assert mixed.arrival_us.tolist() == sorted([*SMALL.arrival_us, *other.arrival_us])
    assert [mixed.models[one] for one in mixed.model] == ["a", "c", "b", "b", "a", "c", "b", "b"]
    assert mixed.blocks[mixed.block_start[2] : mixed.block_start[4]].tolist() == [1, 2, 3, 6, 7, 8]


def test_blocks_of_different_sizes_are_not_merged() -> None:
    other = make_workload([0], [10], [1], blocks=[[1]], block_tokens=16)
    with pytest.raises(ValueError, match="one size"):
        merge([SMALL, other])
    assert merge([OPEN, other]).block_tokens == 16


def test_only_some_names_stay_and_unknown_ones_are_an_error() -> None:
    assert alter.only(SMALL, "model", ["b"]).prompt_tokens.tolist() == [1_200, 400]
    with pytest.raises(ValueError, match="no model is named c; there are a, b"):
        alter.only(SMALL, "model", ["c"])
    with pytest.raises(ValueError, match="column must be one of"):
        alter.only(SMALL, "text", ["c"])


def test_two_names_may_become_one() -> None:
    one = alter.rename(SMALL, "model", {"a": "b"})
    assert (one.models, set(one.model.tolist())) == (("b",), {0})


@pytest.mark.parametrize(
    "call",
    [
        lambda: alter.scale_load(OPEN, 0),
        lambda: alter.scale_load(OPEN, float("nan")),
        lambda: alter.scale_load(OPEN, 2, "twice"),
        lambda: alter.mark(OPEN, "tenant", {}),
        lambda: alter.mark(OPEN, "tenant", {"a": -1.0}),
        lambda: alter.mark(OPEN, "tenant", {"a": 0.0}),
        lambda: alter.mark(OPEN, "class", {"a": 1.0}),
        lambda: alter.mark_classes(OPEN, {SloClass.DEFERRED: 1}, {SloClass.DEFERRED: -1.0}),
        lambda: alter.shuffle_lengths(OPEN, 0, 1),
        lambda: alter.cap(OPEN, 1),
        lambda: alter.attach_prompts(OPEN, [], [], []),
        lambda: alter.first(OPEN, 0),
        lambda: merge([]),
    ],
)
def test_what_makes_no_sense_is_an_error(call: Callable[[], Workload]) -> None:
    with pytest.raises(ValueError):
        call()


def test_turns_of_a_chat_begin_with_what_was_said_before() -> None:
    chats = Sessions(rate_per_s=0.2, duration_s=600.0, turns=6.0).generate(1)
    child = np.flatnonzero(chats.parents_of.counts())
    parent = chats.parents
    assert (chats.prompt_tokens[child] > chats.prompt_tokens[parent] + chats.output_tokens[parent]).all()
    for row, before in zip(child.tolist(), parent.tolist(), strict=True):
        own, old = (chats.blocks[chats.block_start[one] : chats.block_start[one + 1]].tolist() for one in (row, before))
        whole = int(chats.prompt_tokens[before]) // chats.block_tokens
        assert own[:whole] == old[:whole]
        assert not set(own[whole:]) & set(old[whole:])
    assert len(chats) / len(np.unique(chats.program)) == pytest.approx(6.0, rel=0.25)
    assert (chats.prompt_tokens + chats.output_tokens).max() <= 32_768


def test_agents_fork_and_join() -> None:
    parents = LOOP.parents_of.counts()
    joins = np.flatnonzero(parents >= 2)
    assert len(joins) > 10
    assert parents.max() <= 4
    for row in joins.tolist():
        rows = LOOP.parents[LOOP.parent_start[row] : LOOP.parent_start[row + 1]]
        assert len({tuple(LOOP.parents[LOOP.parent_start[one] : LOOP.parent_start[one + 1]]) for one in rows}) == 1
        assert LOOP.think_us[row] == 0
        assert LOOP.prompt_tokens[row] > LOOP.output_tokens[rows].sum()
