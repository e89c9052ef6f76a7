"""What comes in: requests to be placed, and leases that gateways tell of, each with how long its answer may be."""

from forebay.core.scheduling import OpenLease, Placement
from forebay.core.units import US_PER_S
from forebay.core.values import InferenceRequest, LengthPrediction, SloClass
from forebay.scheduler.config import Config
from forebay.scheduler.fleet import Fleet
from forebay.scheduler.histogram import Histogram
from forebay.scheduler.leases import Lease
from forebay.scheduler.policy.puller.base import UNLIMITED
from forebay.scheduler.queue import Held


class Intake:
    """Takes requests and leases in; where nobody predicted their lengths the histogram does."""

    def __init__(self, config: Config, fleet: Fleet, histogram: Histogram) -> None:
        self._fleet = fleet
        self._histogram = histogram
        self._hold_timeout_us = {slo_class: config.hold_timeout_us(slo_class) for slo_class in SloClass}
        self._due_us = {slo_class: config.due_us(slo_class) for slo_class in SloClass}
        self._lease_ttl_us = round(config.lease_ttl_s * US_PER_S)
        self._arrival_count = 0

    def held(
        self, request: InferenceRequest, prediction: LengthPrediction | None, gateway_id: str, now_us: int
    ) -> Held:
        """A request that has come just now."""
        prediction = prediction or self._histogram.predict(request.model, request.prompt_tokens)
        tokens_max = request.tokens_max or self._room_for_answer(request)
        self._arrival_count += 1
        return Held(
            request,
            prediction.quantiles.capped(tokens_max),
            prediction.predicted_by,
            gateway_id,
            tokens_max,
            context_tokens=request.prompt_tokens + (request.tokens_max or 1),
            arrived_us=now_us,
            deadline_us=now_us + (request.hold_timeout_us or self._hold_timeout_us[request.slo_class]),
            sequence=self._arrival_count,
            due_us=now_us + (request.deadline_us or self._due_us[request.slo_class]),
            mean_tokens=min(prediction.mean_tokens, tokens_max or prediction.mean_tokens),
            rank_score=prediction.rank_score,
        )

    def lease(self, gateway_id: str, one: OpenLease, now_us: int) -> Lease:
        """A lease that a gateway has and this scheduler does not know."""
        request = one.request
        guess = self._histogram.predict(request.model, request.prompt_tokens)
        instance = self._fleet.get(one.instance_id)
        placement = Placement(
            request_id=request.request_id,
            lease_id=one.lease_id,
            decision_id="",
            instance_id=one.instance_id,
            grpc_address=instance.grpc_address if instance else "",
            predicted=one.predicted or guess.quantiles.capped(request.tokens_max),
            predicted_by="" if one.predicted else guess.predicted_by,
            lease_ttl_us=self._lease_ttl_us,
            openai_address=instance.openai_address if instance else "",
        )
        return Lease(placement, request, gateway_id, request.tokens_max, now_us, now_us + self._lease_ttl_us)

    def _room_for_answer(self, request: InferenceRequest) -> int:
        """Tokens that the longest context of the model leaves for the answer; 0 where no context is known."""
        lanes = self._fleet.models.get(request.model)
        if lanes is None or lanes.context_max in (0, UNLIMITED):
            return 0
        return max(0, lanes.context_max - request.prompt_tokens)
