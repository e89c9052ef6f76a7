"""What crosses the wire comes back unchanged."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from forebay.core.values import (
    Batching,
    InferenceRequest,
    Instance,
    InstanceLoad,
    InstanceRole,
    InstanceState,
    LengthPrediction,
    LengthQuantiles,
    ModelLoad,
    SloClass,
    WorkloadPoint,
)
from forebay.wire import convert

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)
TOKENS = st.integers(0, 1_048_576)
COUNTS = st.integers(0, 2**31)
TIMES_US = st.integers(1, 4_000_000_000_000_000)
QUANTILES = st.lists(TOKENS, min_size=4, max_size=4).map(lambda values: LengthQuantiles(*sorted(values)))
INSTANCES = st.builds(
    Instance,
    *[NAMES] * 4,
    metrics_url=NAMES,
    state=st.sampled_from(InstanceState),
    region=NAMES,
    profile=NAMES,
    concurrency_max=COUNTS,
    kv_tokens_max=COUNTS,
    context_tokens_max=COUNTS,
    state_us=TIMES_US,
    state_reason=NAMES,
    role=st.sampled_from(InstanceRole),
    batching=st.sampled_from(Batching),
    openai_address=NAMES,
)
REQUESTS = st.builds(
    InferenceRequest,
    NAMES,
    NAMES,
    TOKENS,
    st.sampled_from(SloClass),
    tokens_max=TOKENS,
    tenant=NAMES,
    application=NAMES,
    prompt_head=NAMES,
    temperature=st.floats(0, 2),
    region=NAMES,
    excluded_instance_ids=st.frozensets(NAMES, max_size=4),
    hold_timeout_us=st.integers(0, 86_400_000_000),
    turn_number=st.integers(0, 1_048_576),
    system_digest=NAMES,
    session=NAMES,
    deadline_us=st.integers(0, 604_800_000_000),
    prefix_hashes=st.lists(st.integers(0, 2**64 - 1), max_size=4).map(tuple),
)


@given(INSTANCES)
def test_an_instance_comes_back(value: Instance) -> None:
    assert convert.instance_from_proto(convert.instance_to_proto(value)) == value


@given(REQUESTS)
def test_a_request_comes_back(value: InferenceRequest) -> None:
    assert convert.request_from_proto(convert.request_to_proto(value)) == value


@given(REQUESTS, QUANTILES, st.floats(0, 1e6), st.floats(-10, 10))
def test_a_query_and_its_prediction_come_back(
    request: InferenceRequest, quantiles: LengthQuantiles, mean: float, rank: float
) -> None:
    query = convert.length_query_from_proto(convert.length_query_to_proto(request))
    told = replace(
        request,
        slo_class=query.slo_class,
        region="local",
        excluded_instance_ids=frozenset(),
        hold_timeout_us=0,
        session="",
        deadline_us=0,
        prefix_hashes=(),
    )
    assert query == replace(told, tenant=request.tenant or "default")
    value = LengthPrediction(quantiles, rank, mean, "histogram")
    assert convert.prediction_from_proto(convert.prediction_to_proto("q", value), "histogram") == value


@given(
    st.builds(
        InstanceLoad,
        NAMES,
        NAMES,
        st.booleans(),
        seen_us=st.just(0) | TIMES_US,
        running_count=st.none() | COUNTS,
        waiting_count=st.none() | COUNTS,
        kv_utilization=st.none() | st.floats(0, 1),
        success_total=COUNTS,
        failure_total=COUNTS,
    )
)
def test_an_instance_load_comes_back_with_its_gaps(value: InstanceLoad) -> None:
    assert convert.instance_load_from_proto(convert.instance_load_to_proto(value)) == value


@given(st.builds(ModelLoad, NAMES, *[COUNTS] * 4, st.floats(0, 100), st.floats(0, 100), COUNTS, COUNTS))
def test_a_model_load_comes_back(value: ModelLoad) -> None:
    assert convert.model_load_from_proto(convert.model_load_to_proto(value)) == value


@given(st.builds(WorkloadPoint, TIMES_US, COUNTS, COUNTS, COUNTS))
def test_a_workload_point_comes_back(value: WorkloadPoint) -> None:
    assert convert.workload_point_from_proto(convert.workload_point_to_proto(value)) == value
