"""Ray Serve's replica autoscaler: a target of ongoing requests, and a wish that must last before it is followed."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView
from forebay.core.units import US_PER_S


@dataclass(frozen=True, slots=True)
class RayServe(PerPool):
    """`ceil(mean ongoing requests over look_back_s / target)`, once it has been more (less) than what is there for
    `upscale_delay_s` (`downscale_delay_s`) without a break.

    `target_ongoing_requests` 0 takes the pool's own target. Source: Ray Serve's documentation (its default target 2,
    look-back and delay up 30 s, delay down 600 s); from none the first request is not made to wait.
    """

    target_ongoing_requests: float = 0.0
    look_back_s: float = 30.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0

    def __post_init__(self) -> None:
        if self.look_back_s <= 0 or min(self.target_ongoing_requests, self.upscale_delay_s, self.downscale_delay_s) < 0:
            raise ValueError("look_back_s must be positive, and target_ongoing_requests and delays not negative")

    @property
    def needs(self) -> Needs:
        """The look-back."""
        return Needs(history_us=int(self.look_back_s * US_PER_S))

    def choose(self, view: PoolView) -> Choice:
        """The wish if it has lasted, otherwise what is there."""
        mean = view.concurrency_mean(int(self.look_back_s * US_PER_S))
        wish, count = ceil(mean / (self.target_ongoing_requests or view.concurrency_target)), view.instances_wanted
        memo = self._memo(view, wish)
        lasted_s = (view.now_us - memo["since_us"]) / US_PER_S if memo else 0.0
        delay_s = self.upscale_delay_s if wish > count else self.downscale_delay_s
        follows = bool(memo) and (lasted_s >= delay_s or count == 0)
        wanted = wish if follows else count
        reason = f"{mean:.1f} ongoing requests ask for {wish}"
        if wish != wanted:
            reason += f", since {lasted_s:.0f} of {delay_s:g} s"
        return Choice(wanted, wish, reason, {"ongoing_mean": mean, "wish": float(wish)}, {} if follows else memo)

    def _memo(self, view: PoolView, wish: int) -> Mapping[str, float]:
        """Since when the wish has been above (1) or below (-1) what is there; empty where it is neither."""
        count = view.instances_wanted
        if wish == count:
            return {}
        side = 1.0 if wish > count else -1.0
        return view.memo if view.memo.get("side") == side else {"side": side, "since_us": float(view.now_us)}
