"""How much deferred work one gateway keeps in flight: by what answers need, what is due, and what else is expected."""

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.core.units import US_PER_S
from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.deferred.pacing import Backlog, Demand, Pace, plan
from forebay.gateway.deferred.values import Forecast, Job

_SHARE = 0.1
"""Weight of the newest answer in what an answer is taken to need."""
_DURATION_S = 10.0
_RESPONSE_TOKENS = 256
"""What an answer is taken to need before one has been seen."""


@dataclass(slots=True)
class Usual:
    """What answers of a model need."""

    duration_s: float = _DURATION_S
    tokens: float = 0.0
    """Tokens of work; 0 as long as none has been seen."""

    def learn(self, duration_s: float, tokens: float) -> None:
        """Takes one answer."""
        share = _SHARE if self.tokens else 1.0
        self.duration_s += share * (max(duration_s, 0.001) - self.duration_s)
        self.tokens += share * (max(tokens, 1.0) - self.tokens)


class Windows:
    """The windows of all models; jobs that are passed in have requests left, the first one due first.

    `peer_count` gateways share the work, `is_linked` says whether the scheduler is there, and `demand` is what is
    expected of each model besides.
    """

    def __init__(self, config: DeferredConfig) -> None:
        self.peer_count = 1
        self.is_linked = False
        self.demand: dict[str, Demand] = {}
        self._config = config
        self._usual: dict[str, Usual] = {}
        self._forecast_us: dict[str, int] = {}

    def learn(self, model: str, duration_s: float, tokens: float) -> None:
        """An answer of the model took so long, and so many tokens of work."""
        self._usual.setdefault(model, Usual()).learn(duration_s, tokens)

    def pace(self, model: str, jobs: Sequence[Job], now_us: int) -> Pace:
        """The pace of a model's work now, all gateways together."""
        demand = self.demand.get(model)
        if demand is not None and now_us > demand.start_us + demand.window_us * len(demand.tokens):
            demand = None
        backlogs = [Backlog(job.deadline_us, job.remaining_count * self._work_tokens(job)) for job in jobs]
        return plan(backlogs, demand, now_us, self._config.margin, self._config.calm_share)

    def window(self, model: str, jobs: Sequence[Job], now_us: int) -> int:
        """How many of a model's requests this gateway keeps in flight now.

        As many as keep up the pace (Little's law: rate x duration), shared with the other gateways; in calm hours at
        least `window_min`, which costs nothing, as the scheduler holds back what there is no room for. While the
        scheduler is away nobody holds back, so nothing starts unless its deadline is near.
        """
        if not jobs:
            return 0
        pace, usual = self.pace(model, jobs, now_us), self._usual.get(model, Usual())
        if not self.is_linked and not any(self._is_urgent(job, usual, now_us) for job in jobs):
            return 0
        in_flight = pace.rate / self._work_tokens(jobs[0]) * usual.duration_s / self.peer_count
        wanted = min(self._config.window_max, int(in_flight) + (pace.rate > 0))
        return max(wanted, self._config.window_min) if pace.is_calm else wanted

    def forecast(self, model: str, jobs: Sequence[Job], now_us: int) -> Forecast | None:
        """Asks what is expected of the model until its last deadline, now and then."""
        if not jobs or now_us < self._forecast_us.get(model, 0):
            return None
        self._forecast_us[model] = now_us + int(self._config.forecast_interval_s * US_PER_S)
        left_us, window_us = (
            max(job.deadline_us for job in jobs) - now_us,
            int(self._config.forecast_window_s * US_PER_S),
        )
        return Forecast(model, min(self._config.forecast_windows_max, max(1, -(-left_us // window_us))))

    def _work_tokens(self, job: Job) -> float:
        """What one more request of the job is taken to need."""
        usual = self._usual.get(job.model)
        if usual is not None and usual.tokens:
            return usual.tokens
        total = max(job.total_count, 1)
        response = min(job.tokens_max / total, _RESPONSE_TOKENS)
        return max(1.0, response + self._config.prompt_weight * job.prompt_tokens / total)

    def _is_urgent(self, job: Job, usual: Usual, now_us: int) -> bool:
        """Whether the job needs all the time that is left, at the widest window."""
        rounds = -(-job.remaining_count // self._config.window_max)
        needed_us = rounds * usual.duration_s * US_PER_S / (1 - self._config.margin)
        return job.deadline_us - now_us <= needed_us
