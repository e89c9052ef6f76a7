"""The page of the fleet and that of advice fit 100 columns and say why."""

import io

import pytest
from click.testing import CliRunner
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from lmaas.autoscaler.v1.autoscaler_service_pb2 import AdviseScalingResponse, GetFleetResponse
from lmaas.autoscaler.v1.fleet_pb2 import Bounds, ForecastBand, Mode, ModelFleet, PoolAdvice
from lmaas.common.v1.instance_pb2 import Instance, InstanceRole, InstanceState
from lmaas.predictor.v1.workload_pb2 import Quantiles
from rich.console import Console, RenderableType

from forebay.cli import main
from forebay.cli.console import WIDTH
from forebay.cli.fleet_page import NO_FORECAST, render
from forebay.cli.scale import narrow, parameters_of, pool_of
from forebay.cli.scale import render as render_advice
from forebay.core.errors import ConfigError, NotFound

PLAIN = ModelFleet(
    model="llama-8b",
    bounds=Bounds(instances_min=1, instances_max=4),
    instances_wanted=3,
    ready_count=2,
    starting_count=1,
    lead_p50=Duration(seconds=42),
    lead_p90=Duration(seconds=125),
    reason="40 requests in flight of [10] an instance",
    flip="less than 20 requests in flight",
    region="local",
    role=InstanceRole.INSTANCE_ROLE_MIXED,
)
BATCH = ModelFleet(
    model="llama-70b",
    pool="llama-70b-batch-west",
    bounds=Bounds(instances_max=10_000),
    instances_wanted=12,
    ready_count=11,
    draining_count=1,
    lead_p50=Duration(seconds=242),
    lead_p90=Duration(seconds=325),
    reason="deferred work of 4 million tokens is due within two hours, and nothing else asks for these instances now",
    bound_by="no GPU of its kind is left in its region",
    region="europe-west",
    gpu="A100-80G",
    gpu_count=4,
    role=InstanceRole.INSTANCE_ROLE_BATCH,
)


def band(index: int, p50: float) -> ForecastBand:
    tokens = Quantiles(p10=3_000, p50=6_000, p90=60_000)
    return ForecastBand(
        model="llama-8b",
        start_time=Timestamp(seconds=1_800_000_000 + 60 * index),
        window=Duration(seconds=60),
        requests=Quantiles(p10=p50 / 2, p50=p50, p90=2 * p50),
        prompt_tokens=tokens,
        response_tokens=tokens,
    )


def page(what: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= WIDTH
    return text


def words(text: str) -> str:
    return " ".join(text.split())


def fleet(*pools: ModelFleet, **more: object) -> GetFleetResponse:
    return GetFleetResponse(models=pools, policy="forebay", mode=Mode.MODE_ACTIVE, **more)  # type: ignore[arg-type]


def test_a_pool_shows_its_numbers_why_and_what_would_change_it() -> None:
    text = page(render(fleet(PLAIN, leader="10.0.0.1:7103")))
    assert "Fleet: policy forebay, active, led by 10.0.0.1:7103" in text
    row = next(one for one in text.splitlines() if "llama-8b" in one)
    assert row.split() == ["llama-8b", "2", "1", "0", "3", "1–4", "42/125", "s"]
    assert "40 requests in flight of [10]" in words(text)
    assert "less than 20 requests in flight" in words(text)
    assert NO_FORECAST in text


def test_what_all_pools_share_is_left_out_and_what_differs_is_shown() -> None:
    alike = page(render(fleet(PLAIN)))
    assert not any(name in alike for name in ("region", "GPU", "role"))
    text = page(render(fleet(PLAIN, BATCH)))
    head = next(one for one in text.splitlines() if "bounds" in one)
    assert head.split()[:5] == ["pool", "region", "GPU", "role", "ready"]
    first = next(one for one in text.splitlines() if "llama-8b" in one)
    assert first.split()[:4] == ["llama-8b", "local", "–", "mixed"]
    second = text[text.index("llama-8b") : text.index("Why")]
    assert "4×" in second
    assert "A100-80G" in second
    assert "242/325 s" in second
    assert "its kind is left in its region" in words(text)


def test_without_a_leader_the_page_says_so() -> None:
    assert "nobody leads now" in page(render(fleet(PLAIN)))


def test_a_forecast_shows_the_next_window_as_rates_and_those_ahead_as_bars() -> None:
    bands = [band(0, 60), band(1, 240), band(2, 480)]
    text = page(render(fleet(PLAIN, forecasts=bands)))
    row = next(one for one in text.splitlines() if "3 × 1 m 0 s" in one)
    assert "0.5 / 1 / 2" in row
    assert "100 / 200 / 2,000" in row
    assert row.rstrip().endswith("▂▅█")
    assert NO_FORECAST not in text


def test_instances_are_shown_where_asked_for_and_warnings_always() -> None:
    one = Instance(
        instance_id="local-1/llama-8b",
        model="llama-8b",
        grpc_address="127.0.0.1:7301",
        state=InstanceState.INSTANCE_STATE_LOADING,
        state_time=Timestamp(seconds=1_800_000_000),
        state_reason="its server answers",
    )
    found = fleet(PLAIN, instances=[one], warnings=["2 more [H100] are needed"])
    assert "local-1" not in page(render(found))
    text = page(render(found, with_instances=True))
    assert all(part in words(text) for part in ("local-1/llama-8b", "loading", "its server answers"))
    assert "! 2 more [H100] are needed" in text


def advice() -> AdviseScalingResponse:
    pools = [
        PoolAdvice(
            model="llama-8b",
            instances_before=2,
            instances_wanted=7,
            instances_after=4,
            bound_by="at most 4 by the bounds",
            reason="70 requests in flight",
            flip="40 and less",
            inputs={"in_flight": 70.0, "target": 10.0},
        ),
        PoolAdvice(model="llama-70b", pool="west", instances_before=1, instances_wanted=1, instances_after=1),
    ]
    return AdviseScalingResponse(policy="kpa", pools=pools, warnings=["it sees less"])


def test_advice_shows_what_would_be_done_why_and_what_was_seen() -> None:
    text = page(render_advice(advice()))
    assert "What kpa would do now; nothing was done" in text
    assert words(next(one for one in text.splitlines() if "70 requests" in one)).startswith("llama-8b 2 7 4")
    assert "70 requests in flight; but at most 4" in words(text)
    assert "in_flight 70, target 10" in text
    assert "! it sees less" in text


def test_advice_is_narrowed_to_a_model_or_a_pool() -> None:
    for wanted in ("llama-70b", "west", "llama-70b/west"):
        one = advice()
        narrow(one, wanted)
        assert [pool.model for pool in one.pools] == ["llama-70b"]
    with pytest.raises(NotFound, match="known: llama-8b, llama-70b/west"):
        narrow(advice(), "nosuch")


def test_a_model_with_several_pools_needs_one_named() -> None:
    east, west = (ModelFleet(model="m", pool=f"m-{side}") for side in ("east", "west"))
    assert pool_of([east, west], "m/m-west") is west
    assert pool_of([east, west], "m-east") is east
    with pytest.raises(ConfigError, match="m-east, m-west"):
        pool_of([east, west], "m")
    with pytest.raises(NotFound, match="known: m-east"):
        pool_of([east], "n")


def test_parameters_are_name_and_value() -> None:
    assert parameters_of(["a=1", "b = x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        parameters_of(["a"])


@pytest.mark.parametrize("words_", [[], ["m"], ["--min", "1"], ["m", "--advise", "--max", "2"]])
def test_scale_says_what_to_say_where_it_is_not_clear_what_is_meant(words_: list[str]) -> None:
    result = CliRunner().invoke(main, ["scale", *words_])
    assert result.exit_code == 2
    assert "--advise" in result.output
