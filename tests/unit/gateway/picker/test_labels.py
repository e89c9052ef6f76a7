"""What llm-d's headers become."""

import pytest

from forebay.core.errors import ConfigError
from forebay.gateway.config import Config
from forebay.gateway.picker.config import PickerConfig
from forebay.gateway.picker.labels import labelled

CONFIG = Config(picker=PickerConfig(objectives={"chat": "interactive-fast", "nightly": "deferred"}))
CLASS, TENANT = "x-forebay-slo-class", "x-forebay-tenant"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ""),
        ({"x-llm-d-inference-objective": "chat"}, "interactive-fast"),
        ({"x-llm-d-inference-objective": "nightly"}, "deferred"),
        ({"x-llm-d-inference-objective": "interactive-normal"}, "interactive-normal"),
        ({"x-llm-d-inference-objective": "unheard-of"}, ""),
        ({"x-llm-d-slo-ttft-ms": "500"}, "interactive-fast"),
        ({"x-llm-d-slo-ttft-ms": "90000"}, "interactive-normal"),
        ({"x-llm-d-slo-ttft-ms": "soon"}, ""),
        ({"x-llm-d-slo-ttft-ms": "-1"}, ""),
        ({"x-llm-d-inference-objective": "nightly", CLASS: "interactive-fast"}, "interactive-fast"),
        ({"x-llm-d-inference-objective": "nightly", "x-llm-d-slo-ttft-ms": "500"}, "deferred"),
    ],
)
def test_the_class_is_that_of_our_header_then_of_the_objective_then_of_the_slo(
    headers: dict[str, str], expected: str
) -> None:
    assert labelled(headers, "", CONFIG)[CLASS] == expected


def test_the_tenant_is_that_of_the_key_then_of_our_header_then_of_the_fairness_id() -> None:
    headers = {"x-llm-d-inference-fairness-id": "c"}
    assert labelled(headers, "", CONFIG)[TENANT] == "c"
    assert labelled({**headers, TENANT: "b"}, "", CONFIG)[TENANT] == "b"
    assert labelled({**headers, TENANT: "b"}, "a", CONFIG)[TENANT] == "a"


def test_an_objective_of_an_unknown_class_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="quick"):
        Config(picker=PickerConfig(objectives={"chat": "quick"}))
    with pytest.raises(ValueError, match="objectives"):
        PickerConfig(objectives={"chat": 3})
    with pytest.raises(ValueError, match="fallbacks_max"):
        PickerConfig(fallbacks_max=-1)
