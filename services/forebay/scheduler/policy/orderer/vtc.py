"""The tenant that was served least goes next."""

from dataclasses import dataclass

from forebay.scheduler.policy.orderer.base import Keys, OrderView


@dataclass(frozen=True, slots=True)
class Vtc:
    """Ranks by the virtual token counter of the tenant, inside a tenant by arrival (Sheng et al., OSDI'24).

    The rule is that of section 3 of the summary of related work. A counter grows by the prompt when a request starts
    and by OUTPUT_WEIGHT for each token of its answer, divided by the weight of the tenant; a tenant that returns is
    lifted to the least of those that wait. With `ahead`, an answer counts in its predicted length when it starts, and
    what really came when it ends: several requests of one tenant that start together then count for what they will be.
    """

    ahead: bool = False

    def rank(self, view: OrderView) -> Keys:
        """The tenant's counter."""
        return view.tenant_charged if self.ahead else view.tenant_service
