"""Llumnix' scaling: keeps the steps that each request can still go within a band."""

from dataclasses import dataclass
from math import ceil

from forebay.autoscaler.policy.autoscaler.base import Choice, InstanceView, Needs, PerPool, PoolView, kept
from forebay.core.units import US_PER_S


@dataclass(frozen=True, slots=True)
class LlumnixBand(PerPool):
    """`steps = (free blocks - blocks that the waiting ask for) / (running + waiting)`, of the whole pool together.

    Below `steps_min` as many instances more as bring it back; above `steps_max`, judged as if one instance were gone
    already, one fewer; every `period_s`. One that starts counts as empty. What waits asks for its prompt, as the
    scheduler tells, and for a block each where it does not. Source: AlibabaPAI/llumnix v0 (load is minus the steps,
    thresholds -10 and -60, 10 s); one quotient of sums for its average over instances, which an idle one would make
    endless, is ours, and gives the number to add in one step.
    """

    steps_min: float = 10.0
    steps_max: float = 60.0
    period_s: float = 10.0
    block_tokens: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.steps_min < self.steps_max:
            raise ValueError("needs 0 < steps_min < steps_max")
        if self.period_s <= 0 or self.block_tokens < 1:
            raise ValueError("period_s must be positive and block_tokens at least 1")

    @property
    def needs(self) -> Needs:
        """Fresh figures of the servers, and what the scheduler has sent them."""
        return Needs(history_us=int(self.period_s * US_PER_S), by_demand=True)

    def choose(self, view: PoolView) -> Choice:
        """The band's answer once a period; no shrink while an instance starts or does not tell its load."""
        told = [one for one in view.instances if one.load is not None and one.load.kv_utilization is not None]
        if not view.kv_tokens or (view.ready_count and not told):
            return kept(view, "no server tells how full its cache is")
        if view.now_us - view.memo.get("at_us", -1e18) < self.period_s * US_PER_S:
            return kept(view, f"the band is looked at every {self.period_s:g} s")
        free, requests = self._sums(view, told)
        blocks = view.kv_tokens / self.block_tokens
        wanted = self._wanted(view, free, requests, blocks, len(told) == len(view.instances))
        steps = free / requests if requests else 0.0
        text = f"{steps:.1f} steps are left to each of {requests:.0f} requests" if requests else "nothing runs or waits"
        inputs = {"free_blocks": free, "request_count": requests, "steps": steps}
        return Choice(wanted, wanted, text, inputs, {"at_us": float(view.now_us)})

    def _sums(self, view: PoolView, told: list[InstanceView]) -> tuple[float, float]:
        """The free blocks less those waited for, and the requests; what no instance has yet waits too."""
        blocks = view.kv_tokens / self.block_tokens
        free, requests = view.starting_count * blocks, 0.0
        for load, pressure in ((one.load, one.pressure) for one in told if one.load):
            waiting = load.waiting_count or 0
            demand = pressure.prefill_tokens / self.block_tokens if pressure and waiting else 0.0
            free += (1.0 - (load.kv_utilization or 0.0)) * blocks - max(float(waiting), demand)
            requests += (load.running_count or 0) + waiting
        held = max(0.0, view.concurrency[-1][1] - requests)
        return free - held, requests + held

    def _wanted(self, view: PoolView, free: float, requests: float, blocks: float, is_whole: bool) -> int:
        count = view.standing_count
        if free < self.steps_min * requests:
            short = self.steps_min * requests - free
            return view.bounded(max(count, view.active_count + ceil(short / blocks)))
        is_calm = is_whole and count > 0 and not view.starting_count
        return view.bounded(count - 1) if is_calm and free - blocks > self.steps_max * requests else count
