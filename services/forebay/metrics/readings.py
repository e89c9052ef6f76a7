"""Reads a server's Prometheus page: families of Triton and its TensorRT-LLM backend, vLLM, trtllm-serve and SGLang.

The names are those of the model-server protocol of the Gateway API inference extension (docs/proposals/003), and what
the engines' own documentation adds.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from forebay.metrics.engine import Reading

Row: TypeAlias = tuple[str, Mapping[str, str], float]

_PREFIXES = (
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_pending_request_count",
    "nv_trt_llm_request_metrics",
    "nv_trt_llm_kv_cache_block_metrics",
    "vllm:num_requests_",
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "vllm:request_success",
    "trtllm_num_requests_",
    "trtllm_kv_cache_utilization",
    "trtllm_request_success",
    "sglang:num_queue_reqs",
    "sglang:num_running_reqs",
    "sglang:token_usage",
    "sglang:num_requests",
)
_RUNNING = ("vllm:num_requests_running", "trtllm_num_requests_running", "sglang:num_running_reqs")
_WAITING = ("vllm:num_requests_waiting", "trtllm_num_requests_waiting", "sglang:num_queue_reqs")
_KV_SHARES = (
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "trtllm_kv_cache_utilization",
    "sglang:token_usage",
)
_SUCCESSES = ("vllm:request_success", "trtllm_request_success", "sglang:num_requests")


def rows_of(page: str) -> list[Row]:
    """The page's samples that a reading is made of. Raises ValueError for a page that is not in Prometheus' format."""
    # A page has hundreds of lines, of which we want ten: parsing only these costs a tenth.
    wanted = [line for line in page.splitlines() if line.startswith(_PREFIXES)]
    families = text_string_to_metric_families("\n".join(wanted) + "\n")
    samples = (sample for family in families for sample in family.samples)
    return [(sample.name.removesuffix("_total"), sample.labels, sample.value) for sample in samples]


def reading_of(rows: Iterable[Row], model: str, alone: bool) -> Reading:
    """What the rows tell of `model`; where it is `alone` on its server, rows under other names count as its own.

    A TensorRT-LLM server names the engine inside an ensemble, not the ensemble that requests name. Versions of one
    model are summed; the fullest KV cache is taken. The first of these that is there counts:

    - running: TensorRT-LLM backend's "scheduled", then vLLM's, trtllm-serve's, SGLang's
    - waiting: TensorRT-LLM backend's "waiting", then vLLM's, trtllm-serve's, SGLang's, and last Triton's pending (which
      ends when a backend takes the request)
    - KV cache: vLLM's usage, trtllm-serve's, SGLang's, the TensorRT-LLM backend's "fraction", else its used over max
    - success: Triton's, then vLLM's, trtllm-serve's, SGLang's
    """
    all_rows = list(rows)
    own = [row for row in all_rows if _model_of(row) == model]
    engine = own if any(not row[0].startswith("nv_inference_") for row in own) or not alone else all_rows
    sums = _Families(own, engine)
    running = sums.first(_trt("scheduled"), *map(_named, _RUNNING))
    waiting = sums.first(_trt("waiting"), *map(_named, _WAITING))
    pending = sums.own("nv_inference_pending_request_count")
    return Reading(
        running_count=_whole(running, 2**32),
        waiting_count=_whole(pending if waiting is None else waiting, 2**32),
        kv_utilization=sums.kv_utilization(),
        success_total=_whole(sums.success(), 2**64) or 0,
        failure_total=_whole(sums.own("nv_inference_request_failure"), 2**64) or 0,
    )


Match: TypeAlias = Callable[[Row], bool]


def _named(name: str) -> Match:
    return lambda row: row[0] == name


def _trt(kind: str) -> Match:
    return lambda row: row[0] == "nv_trt_llm_request_metrics" and row[1].get("request_type") == kind


def _blocks(kind: str) -> Match:
    return lambda row: row[0] == "nv_trt_llm_kv_cache_block_metrics" and row[1].get("kv_cache_block_type") == kind


class _Families:
    """Rows of one model: `own` under its name, `engine` under its engine's."""

    def __init__(self, own: list[Row], engine: list[Row]) -> None:
        self._own = own
        self._engine = engine

    def own(self, name: str) -> float | None:
        return _sum([value for family, _, value in self._own if family == name])

    def first(self, *matches: Match) -> float | None:
        for match in matches:
            found = self._values(match)
            if found:
                return _sum(found)
        return None

    def success(self) -> float | None:
        triton = self.own("nv_inference_request_success")
        return self.first(*map(_named, _SUCCESSES)) if triton is None else triton

    def kv_utilization(self) -> float | None:
        for name in _KV_SHARES:
            if found := self._values(_named(name)):
                return _share(max(found))
        if found := self._values(_blocks("fraction")):
            return _share(max(found))
        used, most = self.first(_blocks("used")), self.first(_blocks("max"))
        return _share(used / most) if used is not None and most else None

    def _values(self, match: Match) -> list[float]:
        return [row[2] for row in self._engine if match(row)]


def _model_of(row: Row) -> str:
    return row[1].get("model") or row[1].get("model_name") or ""


def _sum(values: list[float]) -> float | None:
    return sum(values) if values else None


def _whole(value: float | None, below: int) -> int | None:
    # NaN and infinity are allowed in the format and mean nothing here.
    return int(value) if value is not None and 0 <= value < below else None


def _share(value: float) -> float | None:
    return min(value, 1.0) if value >= 0 else None
