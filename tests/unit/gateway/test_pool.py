"""The gateway's page reads as that of a model server: what waits, what runs, how full the caches are."""

from lmaas.orca.orca_pb2 import OrcaLoadReport
from prometheus_client import CollectorRegistry, generate_latest

from forebay.core.scheduling import Placement
from forebay.core.values import InferenceRequest, Instance, InstanceState, LengthQuantiles
from forebay.gateway.config import Config
from forebay.gateway.engine import Engine
from forebay.gateway.pool import PoolGauges
from forebay.metrics.readings import reading_of, rows_of


def engine_with(kv_tokens_max: int) -> Engine:
    """Of two requests one runs, with 100 tokens of prompt and 25 of answer."""
    engine = Engine(Config())
    engine.on_link_up("", 0)
    engine.on_fleet([Instance("i/m", "m", "h:1", "i", state=InstanceState.READY, kv_tokens_max=kv_tokens_max)], 0)
    for number in range(2):
        engine.on_arrive(InferenceRequest(f"r{number}", "m", 100), 0)
    engine.on_placed("", Placement("r0", "l", "d", "i/m", "h:1", LengthQuantiles(1, 2, 3, 4), "p", 60_000_000), 1)
    engine.on_tokens("r0", 25, 0, 2)
    return engine


def page_of(engine: Engine) -> str:
    registry = CollectorRegistry()
    PoolGauges(engine, registry)
    return generate_latest(registry).decode()


def test_our_own_reader_and_others_pickers_understand_the_page() -> None:
    reading = reading_of(rows_of(page_of(engine_with(1_000))), "m", alone=True)
    assert (reading.running_count, reading.waiting_count, reading.kv_utilization) == (1, 1, 0.125)


def test_a_cache_whose_size_nobody_tells_has_no_share() -> None:
    reading = reading_of(rows_of(page_of(engine_with(0))), "m", alone=True)
    assert reading.kv_utilization is None
    assert reading.running_count == 1


def test_what_an_instance_tells_of_its_cache_is_shown_while_it_takes_requests() -> None:
    engine, registry = engine_with(0), CollectorRegistry()
    gauges = PoolGauges(engine, registry)
    gauges.reported("i/m", OrcaLoadReport(named_metrics={"kv_cache_utilization": 0.5}))
    gauges.reported("gone/m", OrcaLoadReport(named_metrics={"kv_cache_utilization": 0.7}))
    page = generate_latest(registry).decode()
    assert 'forebay_gateway_instance_kv_utilization_ratio{instance_id="i/m"} 0.5' in page
    assert "gone/m" not in page


def test_a_model_without_requests_waits_for_nothing() -> None:
    engine = Engine(Config())
    engine.on_fleet([Instance("i/m", "m", "h:1", "i", state=InstanceState.READY)], 0)
    assert 'vllm:num_requests_waiting{model_name="m"} 0.0' in page_of(engine)
