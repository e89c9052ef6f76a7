"""A fleet that is sized by hand: the initial number, moved only by the bounds."""

from dataclasses import dataclass

from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView


@dataclass(frozen=True, slots=True)
class Static(PerPool):
    """Wants the initial number of instances; setting both bounds to n makes it n."""

    @property
    def needs(self) -> Needs:
        """Nothing."""
        return Needs()

    def choose(self, view: PoolView) -> Choice:
        """The initial number."""
        wanted = view.instances_initial
        return Choice(wanted, wanted, f"the fleet is static at {wanted}", {"instances_initial": float(wanted)})
