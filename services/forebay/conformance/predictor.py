"""What the contract promises of a predictor."""

from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from lmaas.common.v1.length_pb2 import LengthQuantiles
from lmaas.predictor.v1 import length_pb2, workload_pb2
from lmaas.predictor.v1 import predictor_service_pb2 as messages
from lmaas.predictor.v1.length_pb2 import LengthOutcome, LengthQuery
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub

from forebay.conformance.checks import Suite, Target, Untried, demand, refusal, told
from forebay.conformance.rules import add_rules, add_tolerance

PREDICTOR = Suite("lmaas.predictor.v1.PredictorService")
BATCH_COUNT = 1_024
HORIZON_COUNT = 5
WINDOW_S = 60
TOKENS_MAX = 16
LENGTH = length_pb2.MODEL_KIND_LENGTH
QUERY = LengthQuery(query_id="q", model="m", prompt_tokens=6)
SAMPLES = {
    "PredictLength": messages.PredictLengthRequest(queries=[QUERY]),
    "ForecastWorkload": messages.ForecastWorkloadRequest(model="m", horizon_count=1, window=Duration(seconds=WINDOW_S)),
    "ObserveOutcomes": messages.ObserveOutcomesRequest(request_id="o", outcomes=[LengthOutcome(query=QUERY)]),
    "ListModels": messages.ListModelsRequest(),
    "ActivateModel": messages.ActivateModelRequest(kind=LENGTH, name="n", request_id="r"),
    "ShadowModel": messages.ShadowModelRequest(name="n", request_id="r"),
    "RollbackModel": messages.RollbackModelRequest(kind=LENGTH, request_id="r"),
    "ListAccuracy": messages.ListAccuracyRequest(),
}


@PREDICTOR.check(
    "PredictLength",
    "predictions come in the order of the queries, and name them",
    "PredictLengthResponse.predictions: in the order of the queries.",
)
async def _predicts_in_order(target: Target) -> None:
    wanted = [_query(target, prompt_tokens=5 + number) for number in range(20)]
    answer = await _predict(target, wanted)
    came = [one.query_id for one in answer.predictions]
    demand(came == [one.query_id for one in wanted], f"{len(came)} predictions of 20, or in another order")


@PREDICTOR.check(
    "PredictLength",
    "quantiles do not decrease, and somebody is expected to say something",
    "LengthQuantiles: quantiles never decrease.",
)
async def _predicts_quantiles(target: Target) -> None:
    for tokens in (1, 30, 1_000, 100_000):
        [one] = (await _predict(target, [_query(target, prompt_tokens=tokens)])).predictions
        values = _lengths(one.quantiles)
        demand(values == sorted(values), f"for {tokens} prompt tokens: {values}")
        demand(values[-1] > 0 and one.mean_tokens > 0, f"for {tokens} prompt tokens: {values}, mean {one.mean_tokens}")


@PREDICTOR.check(
    "PredictLength",
    "no quantile is above the limit of the request",
    "LengthQuantiles: quantiles never exceed the request's token limit.",
)
async def _predicts_within_the_limit(target: Target) -> None:
    [one] = (await _predict(target, [_query(target, tokens_max=TOKENS_MAX)])).predictions
    demand(max(_lengths(one.quantiles)) <= TOKENS_MAX, f"{_lengths(one.quantiles)} for a limit of {TOKENS_MAX}")


@PREDICTOR.check(
    "PredictLength",
    "a model that nobody has heard of is answered, too",
    "PredictLength: unknown models are answered too, from what is known of others.",
)
async def _predicts_for_unknown_models(target: Target) -> None:
    answer = await _predict(target, [_query(target, model=target.new_id())])
    demand(len(answer.predictions) == 1, "no prediction came")


@PREDICTOR.check("PredictLength", "the largest batch is answered whole", "PredictLengthRequest.queries: 1 to 1,024.")
async def _predicts_large_batches(target: Target) -> None:
    answer = await _predict(target, [_query(target) for _ in range(BATCH_COUNT)])
    demand(len(answer.predictions) == BATCH_COUNT, f"{len(answer.predictions)} predictions of {BATCH_COUNT}")


@PREDICTOR.check(
    "PredictLength",
    "the answer says who predicted",
    'PredictLengthResponse.predicted_by: name and version, such as "onnx_quantile@3".',
)
async def _names_itself(target: Target) -> None:
    demand(bool((await _predict(target, [_query(target)])).predicted_by), "predicted_by is empty")


@PREDICTOR.check(
    "ObserveOutcomes",
    "outcomes are taken, and the same ones again change nothing and fail nothing",
    "ObserveOutcomes: idempotent by request_id.",
)
async def _takes_outcomes(target: Target) -> None:
    query = _query(target, model=target.new_id())
    outcome = LengthOutcome(query=query, generated_tokens=12)
    request = messages.ObserveOutcomesRequest(request_id=target.new_id(), outcomes=[outcome])
    for _ in range(2):
        await _stub(target).ObserveOutcomes(request, timeout=target.timeout_s)


@PREDICTOR.check(
    "ForecastWorkload",
    "windows follow one another and their quantiles do not decrease",
    "ForecastWorkloadResponse.forecasts: one forecast a window, the next window first. Quantiles: never decrease.",
)
async def _forecasts(target: Target) -> None:
    request = messages.ForecastWorkloadRequest(
        model=target.model or "m", horizon_count=HORIZON_COUNT, window=Duration(seconds=WINDOW_S)
    )
    try:
        answer = await _stub(target).ForecastWorkload(request, timeout=target.timeout_s)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            raise Untried(f"it has no history to forecast from now: {told(error)}") from error
        raise
    starts = [one.start_time.seconds for one in answer.forecasts]
    demand(len(starts) == HORIZON_COUNT, f"{len(starts)} windows of {HORIZON_COUNT}")
    demand(starts == [starts[0] + WINDOW_S * number for number in range(HORIZON_COUNT)], f"windows start at {starts}")
    for one in answer.forecasts:
        for values in map(_amounts, (one.requests, one.prompt_tokens, one.response_tokens)):
            demand(values == sorted(values) and values[0] >= 0, f"quantiles {values}")


@PREDICTOR.check(
    "ListModels",
    "one model of each kind that has any is active",
    "ListModels: lists the models that can answer, with the active one of each kind marked.",
)
async def _lists_models(target: Target) -> None:
    answer = await _stub(target).ListModels(messages.ListModelsRequest(page_size=1_000), timeout=target.timeout_s)
    kinds = {one.kind for one in answer.models}
    demand(LENGTH in kinds, "no model answers lengths")
    for kind in kinds:
        active = [one.name for one in answer.models if one.kind == kind and one.active]
        demand(len(active) == 1, f"active of {length_pb2.ModelKind.Name(kind)}: {active or 'none'}")


@PREDICTOR.check(
    "ListModels",
    "pages one by one hold the same models as one large page",
    "ListModelsRequest.page_token: where to go on; next_page_token is empty on the last page.",
)
async def _pages_models(target: Target) -> None:
    stub, token, found = _stub(target), "", list[str]()
    whole = await stub.ListModels(messages.ListModelsRequest(page_size=1_000), timeout=target.timeout_s)
    for _ in range(len(whole.models) + 1):
        request = messages.ListModelsRequest(page_size=1, page_token=token)
        page = await stub.ListModels(request, timeout=target.timeout_s)
        found += [f"{one.kind} {one.name}@{one.version}" for one in page.models]
        token = page.next_page_token
        if not token:
            break
    demand(found == [f"{one.kind} {one.name}@{one.version}" for one in whole.models], f"pages of one held {found}")


@PREDICTOR.check(
    "ActivateModel", "an unknown model is NOT_FOUND", "ActivateModel: fails with NOT_FOUND for an unknown model."
)
async def _activates_no_unknown(target: Target) -> None:
    request = messages.ActivateModelRequest(kind=LENGTH, name=target.new_id(), request_id=target.new_id())
    await refusal(_stub(target).ActivateModel(request, timeout=target.timeout_s), grpc.StatusCode.NOT_FOUND)


@PREDICTOR.check(
    "ActivateModel",
    "the model that answers may be activated again and goes on answering",
    "ActivateModel: idempotent.",
)
async def _activates_again(target: Target) -> None:
    stub = _stub(target)
    answer = await stub.ListModels(messages.ListModelsRequest(kind=LENGTH, page_size=1_000), timeout=target.timeout_s)
    active = next((one for one in answer.models if one.active), None)
    if active is None:
        raise Untried("no model of lengths is active")
    request = messages.ActivateModelRequest(
        kind=LENGTH, name=active.name, version=active.version, request_id=target.new_id()
    )
    now = (await stub.ActivateModel(request, timeout=target.timeout_s)).model
    demand((now.name, now.version, now.active) == (active.name, active.version, True), f"came {now.name}@{now.version}")


@PREDICTOR.check(
    "ShadowModel", "an unknown model is NOT_FOUND", "ShadowModel: fails with NOT_FOUND for an unknown model."
)
async def _shadows_no_unknown(target: Target) -> None:
    request = messages.ShadowModelRequest(name=target.new_id(), request_id=target.new_id())
    await refusal(_stub(target).ShadowModel(request, timeout=target.timeout_s), grpc.StatusCode.NOT_FOUND)


@PREDICTOR.check(
    "ListAccuracy",
    "coverage is a share, and errors are not negative",
    "PredictorAccuracy.coverage_p90: share of answers within their 90 % bound, 0 to 1.",
)
async def _lists_accuracy(target: Target) -> None:
    answer = await _stub(target).ListAccuracy(messages.ListAccuracyRequest(), timeout=target.timeout_s)
    for row in answer.rows:
        told_of = f"{row.predictor} of {row.model}"
        demand(0 <= row.coverage_p90 <= 1, f"{told_of}: coverage_p90 {row.coverage_p90}")
        demand(row.mae_tokens >= 0, f"{told_of}: mae_tokens {row.mae_tokens}")


add_tolerance(PREDICTOR, "PredictLength", SAMPLES["PredictLength"])
add_rules(PREDICTOR, SAMPLES)


def _stub(target: Target) -> Any:
    return PredictorServiceStub(target.channel)


def _query(target: Target, prompt_tokens: int = 6, model: str = "", tokens_max: int = 0) -> LengthQuery:
    return LengthQuery(
        query_id=target.new_id(),
        model=model or target.model or "m",
        prompt_tokens=prompt_tokens,
        tokens_max=tokens_max,
        prompt_head="Write a haiku.",
    )


async def _predict(target: Target, queries: list[LengthQuery]) -> messages.PredictLengthResponse:
    request = messages.PredictLengthRequest(queries=queries)
    answer: messages.PredictLengthResponse = await _stub(target).PredictLength(request, timeout=target.timeout_s)
    return answer


def _lengths(one: LengthQuantiles) -> list[int]:
    return [one.p10_tokens, one.p50_tokens, one.p90_tokens, one.p97_tokens]


def _amounts(one: workload_pb2.Quantiles) -> list[float]:
    return [one.p10, one.p50, one.p90, one.p97]
