"""Drives one exchange: between the proxy's stream and the gateway's loop."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
from lmaas.extproc import external_processor_pb2 as pb

from forebay.core.errors import ForebayError, NoInstanceReady, Unavailable
from forebay.core.prediction import TURNS_MAX, system_digest
from forebay.core.scheduling import Placement
from forebay.core.tokens import TokenEstimator
from forebay.core.values import InferenceRequest, Instance
from forebay.gateway.config import Config
from forebay.gateway.fleet import RETRY_AFTER_US
from forebay.gateway.genai import CHAT, TEXT_COMPLETION
from forebay.gateway.intake import REQUEST_ID, Intake, client_id
from forebay.gateway.loop import Loop
from forebay.gateway.openai import own_headers
from forebay.gateway.picker import messages
from forebay.gateway.picker.endpoints import Endpoints
from forebay.gateway.picker.exchange import Exchange, Limits
from forebay.gateway.picker.labels import labelled
from forebay.gateway.picker.values import (
    Action,
    Break,
    Count,
    Finish,
    Place,
    Point,
    Refuse,
    ReturnBody,
    ReturnHead,
    ReturnTrailers,
    SendBody,
    SendHead,
    SendTrailers,
    Served,
)
from forebay.gateway.tenants import Keys


@dataclass(frozen=True, slots=True)
class Parts:
    """What every stream of one gateway shares."""

    loop: Loop
    intake: Intake
    estimator: TokenEstimator
    endpoints: Endpoints
    keys: Keys
    config: Config


class Stream:
    """One HTTP request of the proxy. Whatever ends the stream gives back at once what the request holds."""

    def __init__(self, parts: Parts, context: Any) -> None:
        self._parts = parts
        self._context = context
        config = parts.config
        self._exchange = Exchange(
            Limits(config.body_bytes_max, config.picker.response_bytes_max, config.picker.asks_for_usage)
        )
        self._reading: asyncio.Future[Any] | None = None
        self._placing: asyncio.Future[Placement] | None = None
        self._request: InferenceRequest | None = None
        self._placement: Placement | None = None
        self._subset: frozenset[str] | None = None
        self._named = ""
        self._traced: Mapping[str, str] = {}
        self._byte_count = 0
        self._prompt_tokens = 0
        self._is_duplex_response = True
        self._is_refused = False

    async def run(self) -> None:
        """Runs until the proxy ends the stream, or an error was given."""
        try:
            while not self._is_refused:
                message = await self._next()
                if message is grpc.aio.EOF:
                    return
                actions = self._heard(message) if message is not None else await self._placed()
                await self._do(actions)
        finally:
            if self._reading is not None:
                self._reading.cancel()
            if self._request is not None:
                self._parts.loop.gone(self._request.request_id)

    async def _next(self) -> Any:
        """The next message of the proxy, or None when the placement that is waited for is there first."""
        if self._placing is None and self._reading is None:
            return await self._context.read()
        reading = self._reading = self._reading or asyncio.ensure_future(self._context.read())
        if self._placing is not None:
            await asyncio.wait((reading, self._placing), return_when=asyncio.FIRST_COMPLETED)
            if self._placing.done():
                return None
        message = await reading
        self._reading = None
        return message

    def _heard(self, message: pb.ProcessingRequest) -> list[Action]:
        exchange = self._exchange
        match message.WhichOneof("request"):
            case "request_headers":
                return self._begun(message)
            case "request_body":
                return exchange.on_request_body(message.request_body.body, message.request_body.end_of_stream)
            case "request_trailers":
                return exchange.on_request_trailers()
            case "response_headers":
                named, is_last = (
                    messages.headers(message.response_headers.headers),
                    message.response_headers.end_of_stream,
                )
                served = messages.served(message, named)
                return exchange.on_response_head(messages.status(named), named, served, is_last)
            case "response_body":
                return exchange.on_response_body(message.response_body.body, message.response_body.end_of_stream)
            case "response_trailers":
                return exchange.on_response_trailers()
        return []

    def _begun(self, message: pb.ProcessingRequest) -> list[Action]:
        headers = messages.headers(message.request_headers.headers)
        self._named, self._subset = client_id(headers), messages.subset(message)
        is_duplex, self._is_duplex_response = messages.is_duplex(message)
        is_last = message.request_headers.end_of_stream
        return self._exchange.on_request_head(headers, self._subset, is_last, is_duplex, self._is_duplex_response)

    async def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            response = self._response(action)
            if response is not None:
                await self._context.write(response)
            elif isinstance(action, Place | Point):
                await self._do(await self._seek(action))
            else:
                self._tell(action)

    def _response(self, action: Action) -> pb.ProcessingResponse | None:
        match action:
            case SendHead(endpoints):
                return messages.request_head(endpoints, self._traced)
            case SendBody(piece, is_last):
                return messages.request_body(piece, is_last)
            case SendTrailers():
                return messages.request_trailers()
            case ReturnHead(is_retry_due):
                return messages.response_head(self._own_headers(), is_retry_due)
            case ReturnBody(piece, is_last):
                return messages.response_body(piece, is_last, self._is_duplex_response)
            case ReturnTrailers():
                return messages.response_trailers()
            case Refuse(error):
                self._is_refused = True
                return messages.refusal(error, {REQUEST_ID: self._named})
        return None

    def _tell(self, action: Action) -> None:
        """Tells the loop how a request that was placed fares."""
        if self._request is None:
            return
        loop, request_id = self._parts.loop, self._request.request_id
        match action:
            case Count(prompt_tokens, tokens, is_stream):
                self._prompt_tokens = prompt_tokens
                (loop.tokens if is_stream else loop.counted)(request_id, tokens, prompt_tokens)
            case Finish(outcome):
                self._parts.estimator.observe(self._request.model, self._byte_count, self._prompt_tokens)
                loop.finished(request_id, outcome)
            case Break(error):
                loop.broken(request_id, error)
            case Served(endpoint):
                self._served(endpoint)

    async def _seek(self, action: Place | Point) -> list[Action]:
        try:
            if isinstance(action, Point):
                return self._exchange.on_found(await self._any(action))
            self._request = await self._asked(action)
        except ForebayError as error:
            return self._exchange.on_refused(error)
        operation = CHAT if action.question.is_chat else TEXT_COMPLETION
        self._parts.loop.traces.begin(self._request, operation, action.headers)
        self._placing = self._parts.loop.arrive(self._request)
        return []

    async def _any(self, action: Point) -> str:
        """The endpoint of any instance. Raises NoInstanceReady."""
        fleet = self._parts.loop.engine.fleet
        self._parts.keys.tenant(action.headers)
        for model in fleet.models():
            ready = fleet.ready(model)
            fit = await self._fit(ready)
            if fit:
                return await self._parts.endpoints.of(fit[0].openai_address)
        raise NoInstanceReady("no instance that speaks OpenAI's protocol is ready", retry_after_us=RETRY_AFTER_US)

    async def _asked(self, action: Place) -> InferenceRequest:
        """The scheduler's view of the request. Raises a ForebayError."""
        parts, question = self._parts, action.question
        headers = labelled(action.headers, parts.keys.tenant(action.headers), parts.config)
        request = parts.intake.request(
            self._named,
            question.model,
            question.text or " ",
            question.tokens_max,
            question.temperature,
            headers,
            turn_number=min(question.turn_number, TURNS_MAX),
            system_digest=system_digest(question.system) if question.is_chat else "",
        )
        self._byte_count = len(question.text.encode())
        ready = parts.loop.engine.fleet.ready(question.model)
        unfit = await parts.endpoints.unfit(ready, self._subset)
        is_known = parts.loop.engine.fleet.knows(question.model)
        if is_known and len(unfit) == len(ready) and (ready or self._subset is not None):
            raise _none_fits(question.model, self._subset)
        return replace(request, excluded_instance_ids=self._shunned(ready, unfit))

    def _shunned(self, ready: Sequence[Instance], unfit: frozenset[str]) -> frozenset[str]:
        """Those that are unfit, and those that have just failed as long as there are others.

        A proxy cannot send elsewhere what an instance failed, so its client comes again.
        """
        shunned = unfit | self._parts.loop.suspected()
        return shunned if any(one.instance_id not in shunned for one in ready) else unfit

    async def _placed(self) -> list[Action]:
        """Goes on once the placement is there; one that the proxy cannot follow is given back for another."""
        placing, request = self._placing, self._request
        assert placing is not None
        assert request is not None
        self._placing = None
        error = placing.exception()
        if isinstance(error, ForebayError):
            return self._exchange.on_refused(error)
        placement = self._placement = placing.result()
        endpoint = await self._parts.endpoints.of(placement.openai_address)
        if not endpoint or (self._subset is not None and endpoint not in self._subset):
            failure = Unavailable(f"instance {placement.instance_id} is not one that the proxy can send to")
            self._placing = self._parts.loop.failed(request.request_id, failure)
            return []
        self._traced = dict(self._parts.loop.traces.trying(request.request_id, placement))
        return self._exchange.on_found(",".join([endpoint, *await self._fallbacks(placement, request)]))

    async def _fallbacks(self, placement: Placement, request: InferenceRequest) -> list[str]:
        """The endpoints to try where the chosen one fails, those with the fewest requests first."""
        count = self._parts.config.picker.fallbacks_max
        if not count:
            return []
        fleet = self._parts.loop.engine.fleet
        others = [
            one for one in await self._fit(fleet.ready(request.model)) if one.instance_id != placement.instance_id
        ]
        others.sort(key=lambda one: (fleet.outstanding(one.instance_id), one.instance_id))
        return [await self._parts.endpoints.of(one.openai_address) for one in others[:count]]

    async def _fit(self, ready: Sequence[Instance]) -> list[Instance]:
        unfit = await self._parts.endpoints.unfit(ready, self._subset)
        return [one for one in ready if one.instance_id not in unfit]

    def _served(self, endpoint: str) -> None:
        """The proxy sent the request to another instance than the one that was chosen, since that one failed."""
        assert self._request is not None
        seen = self._parts.endpoints.seen
        if self._placement is None or endpoint == seen(self._placement.openai_address):
            return
        ready = self._parts.loop.engine.fleet.ready(self._request.model)
        instance = next((one for one in ready if seen(one.openai_address) == endpoint), None)
        if instance is not None:
            self._placement = replace(self._placement, instance_id=instance.instance_id)
            self._parts.loop.failed_over(self._request.request_id, instance.instance_id)

    def _own_headers(self) -> Mapping[str, str]:
        return own_headers(self._placement, self._named) if self._placement is not None else {}


def _none_fits(model: str, subset: frozenset[str] | None) -> NoInstanceReady:
    if subset is None:
        text = f"no instance of model {model!r} that is ready speaks OpenAI's protocol; set its openai_address"
    else:
        text = f"no instance of model {model!r} that is ready is among the {len(subset)} endpoints that may be chosen"
    return NoInstanceReady(text, retry_after_us=RETRY_AFTER_US)
