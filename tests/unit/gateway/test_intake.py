import pytest

from forebay.core.errors import InvalidArgument
from forebay.core.tokens import TokenEstimator
from forebay.core.values import InferenceRequest, SloClass
from forebay.gateway.config import Config
from forebay.gateway.intake import Intake, client_id


def request(text: str = "Hello", config: Config | None = None, **headers: str) -> InferenceRequest:
    named = {f"x-forebay-{name.replace('_', '-')}": value for name, value in headers.items()}
    return Intake(config or Config(), TokenEstimator()).request("client", "m", text, 9, 0.5, named)


def test_labels_come_from_the_headers() -> None:
    read = request(slo_class="interactive-fast", tenant="acme", application="translation")
    assert (read.slo_class, read.tenant, read.application) == (SloClass.INTERACTIVE_FAST, "acme", "translation")


def test_without_headers_the_defaults_hold() -> None:
    read = request()
    assert (read.slo_class, read.tenant, read.application) == (SloClass.INTERACTIVE_NORMAL, "default", "")
    assert request(config=Config(slo_class_default="deferred")).slo_class is SloClass.DEFERRED


@pytest.mark.parametrize("headers", [{"slo_class": "fast"}, {"tenant": "x" * 129}, {"application": "ä" * 65}])
def test_a_bad_header_is_named(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        request(**headers)
    assert next(iter(caught.value.violations)).startswith("x-forebay-")


def test_ids_begin_with_the_client_s_and_never_repeat() -> None:
    ids = {request().request_id for _ in range(100)}
    assert len(ids) == 100
    assert all(one.startswith("client-") for one in ids)


def test_a_long_id_of_a_client_still_fits() -> None:
    read = Intake(Config(), TokenEstimator()).request("i" * 128, "m", "Hello", 9, 0.5, {})
    assert len(read.request_id) <= 128


def test_a_client_s_id_is_taken_only_where_a_header_can_hold_it() -> None:
    assert client_id({"x-request-id": "abc-1"}) == "abc-1"
    for bad in ("", "a b", "a\nb", "ü", "x" * 129):
        assert client_id({"x-request-id": bad}) != bad


def test_tokens_are_estimated_and_never_none() -> None:
    assert request("a" * 400).prompt_tokens == 100
    assert request("a").prompt_tokens == 1
    assert request("a" * 5_000_000).prompt_tokens == 1_048_576


def test_the_head_of_the_prompt_is_cut_between_characters() -> None:
    assert request("ä" * 10, Config(prompt_head_bytes=5)).prompt_head == "ää"
    assert request("secret", Config(prompt_head_bytes=0)).prompt_head == ""


def test_the_head_of_the_prompt_is_not_in_the_request_s_text_form() -> None:
    assert "Hello" not in repr(request("Hello"))
