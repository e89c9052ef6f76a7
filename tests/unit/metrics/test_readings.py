"""Pages of Triton, of its TensorRT-LLM backend and of vLLM are understood; others say nothing and break nothing."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.metrics.engine import Reading
from forebay.metrics.readings import reading_of, rows_of

PAGES = Path(__file__).with_name("pages")
"""Whole pages as the servers write them, from the names that their documentation and the inference extension give."""
TRITON = """
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="m",version="1"} 40
nv_inference_request_success{model="m",version="2"} 2
nv_inference_request_success{model="other",version="1"} 9
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="m",reason="OTHER",version="1"} 1
nv_inference_request_failure{model="m",reason="REJECTED",version="1"} 2
nv_inference_request_failure{model="m",reason="CANCELED",version="1"} 0
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="m",version="1"} 5
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
"""
TENSORRT_LLM = """
nv_inference_request_success{model="ensemble",version="1"} 7
nv_inference_pending_request_count{model="ensemble",version="1"} 99
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 3
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 4
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="active",version="1"} 7
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="tensorrt_llm",version="1"} 200
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="tensorrt_llm",version="1"} 50
"""
FRACTION = 'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.26\n'
VLLM = """
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 6.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 10.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 5.0
"""


def reading(page: str, model: str = "m", alone: bool = True) -> Reading:
    return reading_of(rows_of(page), model, alone)


def test_triton_tells_what_waits_and_what_ended_but_not_what_runs() -> None:
    assert reading(TRITON) == Reading(None, 5, None, 42, 3)


def test_models_on_one_server_are_told_apart() -> None:
    assert reading(TRITON, "other", alone=False) == Reading(success_total=9)


def test_tensorrt_llm_tells_of_the_engine_inside_an_ensemble() -> None:
    assert reading(TENSORRT_LLM, "ensemble") == Reading(4, 3, 0.25, 7, 0)
    assert reading(TENSORRT_LLM + FRACTION, "ensemble").kv_utilization == 0.26


def test_an_engine_shared_by_models_is_counted_for_none_but_its_own_name() -> None:
    assert reading(TENSORRT_LLM, "ensemble", alone=False) == Reading(None, 99, None, 7, 0)
    assert reading(TENSORRT_LLM, "tensorrt_llm", alone=False) == Reading(4, 3, 0.25, 0, 0)


def test_vllm_tells_everything_but_failures() -> None:
    assert reading(VLLM) == Reading(7, 2, 0.75, 15, 0)
    assert reading('vllm:gpu_cache_usage_perc{model_name="m"} 0.5').kv_utilization == 0.5


def test_what_vllm_tells_through_triton_counts_before_tritons_own_pending() -> None:
    page = TRITON + 'vllm:num_requests_waiting{model="m",version="1"} 8\n'
    assert reading(page) == Reading(None, 8, None, 42, 3)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("triton", Reading(None, 4, None, 120, 3)),
        ("triton_tensorrtllm", Reading(16, 5, 0.4, 31, 0)),
        # Triton's vLLM backend tells nothing of its engine's queue and cache: the scheduler has to estimate them.
        ("triton_vllm", Reading(None, 0, None, 8, 0)),
        ("vllm", Reading(12, 3, 0.55, 100, 0)),
        ("trtllm_serve", Reading(9, 2, 0.35, 77, 0)),
        ("sglang", Reading(30, 6, 0.81, 55, 0)),
    ],
)
def test_the_page_of_each_kind_of_server_is_read(page: str, expected: Reading) -> None:
    assert reading((PAGES / f"{page}.txt").read_text(), "llama") == expected


@pytest.mark.parametrize("page", ["", "\n", "# HELP a b\n", "go_goroutines 5\n", "<html>not metrics</html>"])
def test_a_page_of_something_else_says_nothing(page: str) -> None:
    assert reading(page) == Reading()


@pytest.mark.parametrize("number", ["NaN", "+Inf", "-Inf", "-1", "1e300"])
def test_numbers_that_mean_nothing_are_left_out(number: str) -> None:
    page = (
        f'vllm:num_requests_running{{model_name="m"}} {number}\nvllm:kv_cache_usage_perc{{model_name="m"}} {number}\n'
    )
    told = reading(page)
    assert told.running_count is None
    assert told.kv_utilization in (None, 1.0)


@pytest.mark.parametrize(
    "line", ["nv_inference_request_success{", "nv_inference_request_success x", "vllm:num_requests_"]
)
def test_a_page_that_is_broken_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        rows_of(line)


names = st.sampled_from(["nv_inference_request_success", "vllm:num_requests_running", "nv_trt_llm_request_metrics"])


@given(st.lists(st.tuples(names, st.text(alphabet='{}="\\,x1. #\t', max_size=20)), max_size=5))
def test_no_page_does_worse_than_to_be_refused(lines: list[tuple[str, str]]) -> None:
    try:
        reading("\n".join(name + rest for name, rest in lines))
    except ValueError:
        return
