"""Says no, for ever or for now, and why: impossible requests, admission, full queues, holds that took too long."""

from forebay.core.scheduling import Rejected, Retry
from forebay.core.units import US_PER_S
from forebay.core.values import SloClass
from forebay.scheduler.config import Config
from forebay.scheduler.fleet import Fleet
from forebay.scheduler.ledger import Ledger
from forebay.scheduler.pace import Pace
from forebay.scheduler.placing import Placer
from forebay.scheduler.policy import Policies
from forebay.scheduler.policy.admission.base import AdmissionView, Later, Never, looks, looks_ahead
from forebay.scheduler.queue import Held, HeldBook
from forebay.scheduler.quotas import Quotas

PACE_UNKNOWN_US = US_PER_S
"""When to come back while nothing is known of the pace."""
STARTING_US = 2 * US_PER_S
"""When to come back to a model without a ready instance: loading one takes seconds at least."""


class Gate:
    """Judges requests and keeps the pace at which a model's requests end, which tells when to come back."""

    def __init__(
        self,
        config: Config,
        policies: Policies,
        fleet: Fleet,
        held: HeldBook,
        placer: Placer,
        ledger: Ledger,
        quotas: Quotas,
    ) -> None:
        self._config = config
        self._policies = policies
        self._fleet = fleet
        self._held = held
        self._placer = placer
        self._ledger = ledger
        self._quotas = quotas
        self._itl_us = {slo_class: config.itl_slo_us(slo_class) for slo_class in SloClass}
        self._tightest_itl_us = min(self._itl_us.values())
        # Shadows see what the active policy sees, and may want more.
        shadows = [cast.policies["admission"] for cast in policies.shadows.values() if "admission" in cast.policies]
        self._looks = looks(policies.admission) or bool(shadows)
        self._looks_ahead = any(map(looks_ahead, [policies.admission, *shadows]))
        self._zero_since_us: dict[str, int] = {}
        self._ended: dict[str, Pace] = {}
        self._generated: dict[str, Pace] = {}

    def note_end(self, model: str, now_us: int) -> None:
        """Learns that a request ended."""
        _pace(self._ended, model).add(1, now_us)

    def note_tokens(self, model: str, tokens: int, now_us: int) -> None:
        """Learns that tokens were generated."""
        if tokens:
            _pace(self._generated, model).add(tokens, now_us)

    def tokens_per_s(self, model: str, now_us: int) -> float:
        """How many tokens all instances of the model generate; 0 where that is not known."""
        pace = self._generated.get(model)
        return pace.per_s(now_us) if pace else 0.0

    def impossible(self, held: Held, now_us: int) -> Rejected | None:
        """A final no for a request that no waiting helps; before the fleet is known none is."""
        model = held.request.model
        lanes = self._fleet.models.get(model)
        if lanes is None:
            is_known = model in self._fleet.leads_us or not self._fleet.announced
            return None if is_known else self.reject(held, self._unknown(model), now_us)
        if not lanes.ids or held.context_tokens <= lanes.context_max:
            return None
        return self.reject(held, _too_long(held, lanes.context_max), now_us)

    def not_admitted(self, held: Held, now_us: int) -> Rejected | Retry | None:
        """What the admission policy says against a request."""
        request, tokens = held.request, held.request.prompt_tokens + held.quantiles.p50
        if not self._looks:
            self._quotas.charge(request, tokens, now_us)
            return None
        view = self._view(held, now_us)
        said = self._policies.admission.admit(view)
        self._placer.shadows.judged(request.model, view, said)
        if isinstance(said, Never):
            return self.reject(held, said, now_us)
        if not isinstance(said, Later):
            self._quotas.charge(request, tokens, now_us)
            return None
        if said.is_promise:
            self._quotas.promise(request.tenant, tokens, now_us + said.retry_delay_us)
        return self._retry(held, said, now_us)

    def queue_full(self, held: Held, now_us: int) -> Retry | None:
        """A no for now where the model's queue has no place; before the fleet is known all queues count as one."""
        queue_count = len(self._held.of_model(held.request.model)) if self._fleet.announced else len(self._held)
        is_zero = self._is_at_zero(held.request.model)
        if queue_count < (self._config.zero_hold_count_max if is_zero else self._config.held_count_max):
            return None
        if is_zero:
            text = f"{queue_count} requests wait for the first instance of model {held.request.model!r}"
            return self._retry(held, self._started("STARTING", text, held, now_us), now_us)
        text = f"{queue_count} requests of model {held.request.model!r} are held already; come back after the delay"
        return self._retry(held, Later("QUEUE_FULL", text, self._turn_us(held, now_us)), now_us)

    def timed_out(self, held: Held, now_us: int) -> Retry:
        """A no for now to a request that was held long enough."""
        model = held.request.model
        lanes = self._fleet.models.get(model)
        waited = f"in the {(now_us - held.arrived_us) / US_PER_S:.1f} s that this request was held"
        if self._is_at_zero(model):
            text = f"no instance of model {model!r} took requests {waited}; one is being started"
            return self._retry(held, self._started("NO_INSTANCE_READY", text, held, now_us), now_us)
        if lanes is None or not lanes.ready_count:
            text = f"no instance of model {model!r} took requests {waited}; come back after the delay"
            return self._retry(held, Later("NO_INSTANCE_READY", text, STARTING_US), now_us)
        why = self._placer.holding.get(model, {}).get(held.request.slo_class)
        what = f"the router let it wait: {why}," if why else f"no instance of model {model!r} had room"
        text = f"{what} {waited}; come back after the delay"
        return self._retry(held, Later("HELD_TOO_LONG", text, self._turn_us(held, now_us)), now_us)

    def _is_at_zero(self, model: str) -> bool:
        """Whether the model is started when requests come, and has no instance that takes them now."""
        lanes = self._fleet.models.get(model)
        if model in self._fleet.leads_us and (lanes is None or not lanes.ready_count):
            return True
        self._zero_since_us.pop(model, None)
        return False

    def _started(self, reason: str, text: str, held: Held, now_us: int) -> Later:
        """Not before an instance takes requests: a start takes its lead from the first request that waits for it."""
        model = held.request.model
        oldest_us = self._held.of_model(model).oldest_us() or held.arrived_us
        since_us = self._zero_since_us.setdefault(model, min(oldest_us, held.arrived_us))
        delay_us = max(STARTING_US, since_us + self._fleet.leads_us[model] - now_us)
        text = f"{text}; it is expected to take requests in {delay_us / US_PER_S:.0f} s, come back then"
        # Told as it is: to come back sooner helps nobody.
        return Later(reason, text, delay_us, is_promise=True)

    def reject(self, held: Held, said: Never, now_us: int) -> Rejected:
        """Records a final no."""
        self._quotas.settle(held.request, 0, now_us)
        counts = self._placer.counts(held.request.model)
        return self._ledger.rejected(held, said.reason, said.message, counts, now_us)

    def _retry(self, held: Held, said: Later, now_us: int) -> Retry:
        self._quotas.settle(held.request, 0, now_us)
        counts = self._placer.counts(held.request.model)
        return self._ledger.retry(held, self._placer.sight(held), self._bounded(said), counts, now_us)

    def _bounded(self, said: Later) -> Later:
        if said.is_promise:
            return said
        least, most = self._config.retry_delay_min_s * US_PER_S, self._config.retry_delay_max_s * US_PER_S
        return Later(said.reason, said.message, round(min(max(said.retry_delay_us, least), most)))

    def _turn_us(self, held: Held, now_us: int) -> int:
        """When the request would be placed behind those that are held, at the pace at which requests end."""
        model = held.request.model
        pace = self._ended.get(model)
        per_s = pace.per_s(now_us) if pace else 0.0
        return round((len(self._held.of_model(model)) + 1) / per_s * US_PER_S) if per_s > 0 else PACE_UNKNOWN_US

    def _view(self, held: Held, now_us: int) -> AdmissionView:
        request = held.request
        lanes = self._fleet.models.get(request.model)
        queue = self._held.queues.get(request.model)
        counts = self._placer.counts(request.model)
        # By position, as what is made for each request is.
        return AdmissionView(
            request.model,
            request.slo_class,
            request.tenant,
            request.prompt_tokens,
            held.quantiles.p50,
            lanes.tokens_total if lanes else 0,
            queue.predicted_tokens if queue else 0,
            counts.leases,
            counts.held,
            lanes.ready_count if lanes else 0,
            self.tokens_per_s(request.model, now_us),
            self._quotas.look(request.tenant, request.prompt_tokens + held.quantiles.p50, now_us),
            held.due_us - now_us,
            self._tightest_itl_us,
            self._itl_us[request.slo_class],
            self._wait_us(held, now_us) if self._looks_ahead else 0,
            self._virtual_count(request.model) if self._looks_ahead else 0.0,
        )

    def _wait_us(self, held: Held, now_us: int) -> int:
        """How long the request would be held, were it held now: as long as those before it and one more take."""
        lanes, queue = self._fleet.models.get(held.request.model), self._held.queues.get(held.request.model)
        pace = self._ended.get(held.request.model)
        per_s = pace.per_s(now_us) if pace else 0.0
        if per_s <= 0 or (queue is None and lanes is not None and lanes.eligible_count):
            return 0
        ahead = queue.count_ahead(self._policies.orderer, held, now_us) if queue else 0
        return round((ahead + 1) / per_s * US_PER_S)

    def _virtual_count(self, model: str) -> float:
        counts = self._placer.counts_by_class(model)
        return sum(self._tightest_itl_us / self._itl_us[slo_class] * count for slo_class, count in counts.items())

    def _unknown(self, model: str) -> Never:
        listed = _listed(sorted(self._fleet.models))
        return Never(
            "MODEL_UNKNOWN", f"no instance of model {model!r} has ever been part of the fleet; known models: {listed}"
        )


def _pace(paces: dict[str, Pace], model: str) -> Pace:
    pace = paces.get(model)
    if pace is None:
        pace = paces[model] = Pace()
    return pace


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more if names else "none"


def _too_long(held: Held, context_max: int) -> Never:
    request = held.request
    answer = f"{request.tokens_max} tokens of answer" if request.tokens_max else "at least one token of answer"
    return Never(
        "PROMPT_TOO_LONG",
        f"{request.prompt_tokens} tokens of prompt and {answer} do not fit into the {context_max} tokens that model "
        f"{request.model!r} takes; shorten the prompt or lower tokens_max",
    )
