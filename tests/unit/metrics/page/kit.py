"""Records and instances as the page's tests want them."""

from typing import Any

from forebay.core.metrics import RequestRecord, RequestStatus
from forebay.core.values import Instance, InstanceState
from forebay.metrics.page.config import PageConfig
from forebay.metrics.page.recent import Recent

S = 1_000_000
NOW = 1_800_000_000 * S


def recent(**settings: Any) -> Recent:
    return Recent(PageConfig(**settings).promises())


def record(name: str = "r", **fields: Any) -> RequestRecord:
    given = {"model": "m", "arrival_us": NOW - 3 * S, "status": RequestStatus.OK, "instance_id": "a/m"}
    answered = {"ttft_us": S // 2, "end_to_end_us": 2 * S, "response_tokens": 16}
    return RequestRecord(name, **{**given, **answered, **fields})


def instance(name: str = "a/m", model: str = "m", **fields: Any) -> Instance:
    return Instance(name, model, "127.0.0.1:1", name.split("/")[0], state=InstanceState.READY, **fields)
