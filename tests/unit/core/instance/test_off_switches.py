"""Every feature of the engine vanishes where nothing calls for it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from forebay.core.instance import EngineFlags, InstanceModel
from tests.unit.core.instance.kit import AMPLE, PROFILE, Arrival, few, play, traces


@few
@pytest.mark.parametrize(
    "change",
    [
        {"reserve_full_prompt": False},
        {"watermark_blocks": 3},
        {"no_evict": True},
        {"preemption": "swap", "swap_block_ps": 500},
        {"model_tokens_max": 1_000},
        {"order": "priority", "preemption": "swap", "no_evict": True},
    ],
    ids=str,
)
@given(trace=traces())
def test_with_unlimited_memory_nothing_that_guards_it_matters(change: dict[str, Any], trace: list[Arrival]) -> None:
    plain = [(now_ps, replace(request, priority=0)) for now_ps, request in trace]
    assert play(InstanceModel(AMPLE, EngineFlags(**change)), plain) == play(InstanceModel(AMPLE), plain)


@few
@given(traces())
def test_constant_iterations_put_every_token_on_a_whole_number_of_them(trace: list[Arrival]) -> None:
    constant = replace(
        PROFILE,
        iteration_ps=(0, *[1000] * 24),
        decode_ps=0,
        context_token_ps=0,
        prefill_ps=0,
        half_pair_fixed=0,
        prefill_token_fixed=0,
    )
    together = [(0, request) for _, request in trace]
    for flags in (EngineFlags(), EngineFlags(preemption="swap")):
        instance = InstanceModel(constant, flags)
        run = play(instance, together)
        assert all(event.at_ps % 1000 == 0 for event in run.events)
        assert max(event.at_ps for event in run.events) == 1000 * instance.view().iteration_count
