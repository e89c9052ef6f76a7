"""What an emulated Triton exports for Prometheus: Triton's own names, TensorRT-LLM's, and vLLM's.

Names and labels as documented by https://github.com/triton-inference-server/server (metrics), tensorrtllm_backend and
vLLM. Triton's counters lack the `_total` that Prometheus' client library would append, hence the writer here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from forebay.core.instance import EngineView
from forebay.emulator.host import ModelHost
from forebay.emulator.model_config import VERSION
from forebay.emulator.repository import Entry, Repository

CONTENT_TYPE = "text/plain; charset=utf-8"

_FAMILIES: Mapping[str, tuple[str, str]] = {
    "nv_inference_request_success": ("counter", "Number of successful inference requests, all batch sizes"),
    "nv_inference_request_failure": ("counter", "Number of failed inference requests, all batch sizes"),
    "nv_inference_count": ("counter", "Number of inferences performed (does not include cached requests)"),
    "nv_inference_exec_count": ("counter", "Number of model executions performed (does not include cached requests)"),
    "nv_inference_request_duration_us": ("counter", "Cumulative inference request duration in microseconds"),
    "nv_inference_queue_duration_us": ("counter", "Cumulative inference queuing duration in microseconds"),
    "nv_inference_compute_infer_duration_us": ("counter", "Cumulative compute inference duration in microseconds"),
    "nv_inference_pending_request_count": ("gauge", "Instantaneous number of pending requests awaiting execution"),
    "nv_trt_llm_request_metrics": ("gauge", "Requests by state: active, scheduled, waiting, in context phase, most"),
    "nv_trt_llm_kv_cache_block_metrics": ("gauge", "KV cache blocks: most, free, used, tokens in each, share in use"),
    "vllm:num_requests_running": ("gauge", "Number of requests in the running batch"),
    "vllm:num_requests_waiting": ("gauge", "Number of requests waiting for a place in the batch"),
    "vllm:kv_cache_usage_perc": ("gauge", "Share of the KV cache in use, 1 is all"),
    "vllm:cache_config_info": ("gauge", "Block size and number of blocks of the KV cache, as labels; always 1"),
    "vllm:num_preemptions_total": ("counter", "Number of requests that lost their place and their cache"),
    "vllm:prompt_tokens_total": ("counter", "Number of prompt tokens processed"),
    "vllm:generation_tokens_total": ("counter", "Number of generation tokens processed"),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric family."""

    family: str
    labels: Mapping[str, str]
    value: float


def expose(repository: Repository) -> str:
    """The metrics of all models that are ready, in Prometheus' text format."""
    samples = [sample for entry in repository.entries() for sample in _samples(entry)]
    lines = []
    for family, (kind, description) in _FAMILIES.items():
        lines += [f"# HELP {family} {description}", f"# TYPE {family} {kind}"]
        lines += [_line(sample) for sample in samples if sample.family == family]
    return "\n".join(lines) + "\n"


def _samples(entry: Entry) -> Iterator[Sample]:
    if entry.host is None:
        return
    labels = {"model": entry.spec.name, "version": VERSION}
    yield from (Sample(name, labels, value) for name, value in _totals(entry).items())
    for reason, count in entry.stats.failure_counts.items():
        yield Sample("nv_inference_request_failure", {**labels, "reason": reason}, count)
    yield from _engine_samples(entry.host, labels)


def _totals(entry: Entry) -> Mapping[str, float]:
    stats = entry.stats
    return {
        "nv_inference_request_success": stats.success_count,
        "nv_inference_count": stats.success_count,
        "nv_inference_exec_count": stats.success_count,
        "nv_inference_request_duration_us": stats.request_us,
        "nv_inference_queue_duration_us": stats.queue_us,
        "nv_inference_compute_infer_duration_us": max(0, stats.request_us - stats.queue_us),
        "vllm:prompt_tokens_total": stats.prompt_tokens,
        "vllm:generation_tokens_total": stats.generated_tokens,
    }


def _engine_samples(host: ModelHost, labels: Mapping[str, str]) -> Iterator[Sample]:
    view = host.view()
    used_count = view.block_count - view.free_block_count
    for kind, requests in _request_kinds(view).items():
        yield Sample("nv_trt_llm_request_metrics", {**labels, "request_type": kind}, requests)
    for kind, blocks in _block_kinds(view, used_count).items():
        yield Sample("nv_trt_llm_kv_cache_block_metrics", {**labels, "kv_cache_block_type": kind}, blocks)
    yield Sample("nv_inference_pending_request_count", labels, view.waiting_count)
    yield Sample("vllm:num_requests_running", labels, view.running_count)
    yield Sample("vllm:num_requests_waiting", labels, view.waiting_count)
    yield Sample("vllm:kv_cache_usage_perc", labels, used_count / view.block_count)
    sizes = {"block_size": str(view.block_size), "num_gpu_blocks": str(view.block_count)}
    yield Sample("vllm:cache_config_info", {**labels, **sizes}, 1)
    yield Sample("vllm:num_preemptions_total", labels, view.preemption_count)


def _request_kinds(view: EngineView) -> Mapping[str, int]:
    return {
        "active": view.running_count + view.waiting_count,
        "scheduled": view.running_count,
        "waiting": view.waiting_count,
        "context": view.prefill_count,
        "max": view.max_seqs,
    }


def _block_kinds(view: EngineView, used_count: int) -> Mapping[str, float]:
    return {
        "max": view.block_count,
        "free": view.free_block_count,
        "used": used_count,
        "tokens_per": view.block_size,
        "fraction": used_count / view.block_count,
    }


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels.items())
    return f"{sample.family}{{{labels}}} {sample.value:.10g}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
