"""When the simulated autoscaler asks the scheduler what is on its way."""

from dataclasses import dataclass

from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView
from forebay.simulator.config import ObservationConfig
from tests.unit.simulator.shell.stage import S, Stage, group, world


@dataclass(frozen=True)
class Asking(PerPool):
    """Says what it needs, and wants one instance."""

    asked: Needs

    @property
    def needs(self) -> Needs:
        """As told."""
        return self.asked

    def choose(self, view: PoolView) -> Choice:
        """One."""
        return Choice(1, 1, "enough")


def pressed(stage: Stage) -> list[tuple[int, int]]:
    """When the scheduler was asked, and how many snapshots it had been shown by then."""
    return [(at_us // S, count) for at_us, count in stage.until(6).scheduler.pressed]


def test_it_asks_with_every_snapshot_and_after_it() -> None:
    of = world(observation=ObservationConfig(snapshot_s=2.0))
    assert pressed(Stage(of, policy=Asking(Needs(pressure=True)))) == [(0, 1), (2, 3), (4, 5), (6, 7)]


def test_demands_are_a_reason_to_ask_and_so_are_several_pools_of_a_model() -> None:
    assert pressed(Stage(world(), policy=Asking(Needs(by_demand=True))))
    pools = world(group("m"), group("m", pool="m-west", region="west"))
    assert pressed(Stage(pools, policy=Asking(Needs())))


def test_where_nobody_wants_to_know_it_does_not_ask() -> None:
    stage = Stage(world(group("m"), group("n")), policy=Asking(Needs(S, forecast_window_us=S, forecast_count=1)))
    assert pressed(stage) == []
