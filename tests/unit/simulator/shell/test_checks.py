"""Every invariant can break, and says its name when it does."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from forebay.core.instance import EngineView
from forebay.core.scheduling import Placement, ScheduledInstance
from forebay.core.values import Instance, InstanceState, LengthQuantiles
from forebay.simulator.kernel.reference import ReferenceKernel
from forebay.simulator.shell.checks import Broken, Checks
from forebay.simulator.shell.rows import FAILED, FINISHED, Rows
from tests.unit.simulator.shell.worlds import S, run, workload, world


class Overfull(ReferenceKernel):
    """Says that it has given out more memory than there is."""

    def view(self, instance: int) -> EngineView:
        return replace(super().view(instance), free_block_count=-1)


class Forgetful(ReferenceKernel):
    """Says that nothing is on its instances."""

    def view(self, instance: int) -> EngineView:
        return replace(super().view(instance), running_count=0, waiting_count=0)


class Talkative(ReferenceKernel):
    """Says that one token more was made."""

    def generated_tokens(self, row: int) -> int:
        return super().generated_tokens(row) + 1


class Slow(ReferenceKernel):
    """Its clock is late."""

    @property
    def now_ps(self) -> int:
        return super().now_ps - 1


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (Overfull, "memory is within bounds"),
        (Forgetful, "work is where it was put"),
        (Talkative, "tokens are conserved"),
        (Slow, "the clock is monotone"),
    ],
)
def test_an_invariant_that_does_not_hold_is_named(kernel: type[ReferenceKernel], name: str) -> None:
    with pytest.raises(Broken, match=name):
        run(workload([S, 2 * S]), world(), kernel=kernel(2))


class Fleet:
    """A scheduler that knows one instance."""

    def __init__(self, state: InstanceState, draining: bool) -> None:
        instance = Instance("s/model", "model", "", "s", state=state)
        self.engine = self
        self._known = [ScheduledInstance(instance, 0, 0, 8, draining)]

    def instances(self) -> list[ScheduledInstance]:
        return self._known


class Ears:
    """A gateway that hears of placements."""

    def __init__(self) -> None:
        self.heard: list[Placement] = []

    def placed(self, placement: Placement) -> None:
        self.heard.append(placement)


@pytest.mark.parametrize(
    ("state", "draining", "allowed"),
    [
        (InstanceState.READY, False, True),
        (InstanceState.READY, True, False),
        (InstanceState.DRAINING, False, False),
        (InstanceState.LOADING, False, False),
    ],
)
def test_placements_go_to_ready_instances(state: InstanceState, draining: bool, allowed: bool) -> None:
    nothing: Any = None
    scheduler: Any = Fleet(state, draining)
    gateway: Any = Ears()
    context: Any = SimpleNamespace(kernel=None)
    checks = Checks(context, scheduler, gateway, gateway, nothing, nothing)
    placement = Placement("r0", "l", "d", "s/model", "", LengthQuantiles(1, 1, 1, 1), "", S)
    if allowed:
        checks.placed(placement)
        assert gateway.heard == [placement]
    else:
        with pytest.raises(Broken, match="placements go to ready instances"):
            checks.placed(placement)


def test_a_row_is_answered_once() -> None:
    rows = Rows(workload([0]))
    rows.ended(0, FINISHED)
    with pytest.raises(ValueError, match="row 0 is finished and was answered again"):
        rows.ended(0, FAILED)
