"""What an instance is told beside a request: prediction, what is due when, and what the session has had."""

from dataclasses import replace

import pytest
from tritonclient.grpc import service_pb2

from forebay.core.config import from_mapping
from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.core.scheduling import Placement
from forebay.core.values import InferenceRequest, LengthQuantiles, Outcome, SloClass
from forebay.gateway.config import Config
from forebay.gateway.engine import Engine
from forebay.gateway.promises import PromiseConfig, Promises
from forebay.gateway.triton import set_hints, text_request

S = 1_000_000
REQUEST = InferenceRequest("r1", "m", prompt_tokens=10, slo_class=SloClass.INTERACTIVE_FAST, session="chat-7")
PLACEMENT = Placement("r1", "lease", "decision", "a", "a:1", LengthQuantiles(10, 20, 90, 97), "p", 30 * S)


def test_a_class_is_a_promise_and_what_the_request_waited_is_gone() -> None:
    promises = Promises(PromiseConfig(tpot_interactive_fast_ms=100.0))
    assert promises.hints(REQUEST, PLACEMENT, 300_000) == Hints(20, 90, 700_000, 100_000, 0)
    assert promises.hints(REQUEST, PLACEMENT, 5 * S).ttft_slo_us == 1
    normal = replace(REQUEST, slo_class=SloClass.INTERACTIVE_NORMAL)
    assert promises.hints(normal, PLACEMENT, S) == Hints(20, 90, 59 * S, 200_000, 0)


def test_deferred_work_is_promised_nothing() -> None:
    deferred = replace(REQUEST, slo_class=SloClass.DEFERRED)
    assert Promises(PromiseConfig(tpot_interactive_fast_ms=100.0)).hints(deferred, PLACEMENT, 0) == Hints(20, 90)


def test_a_promise_of_0_is_none() -> None:
    config = PromiseConfig(ttft_interactive_fast_s=0, tpot_interactive_fast_ms=0)
    assert Promises(config).hints(REQUEST, PLACEMENT, S) == Hints(20, 90)


def test_what_a_session_was_served_adds_up() -> None:
    promises = Promises(PromiseConfig(tpot_interactive_fast_ms=100.0))
    for session, tokens in (("chat-7", 30), ("other", 8), ("chat-7", 12), ("", 50), ("chat-7", 0)):
        promises.served(session, tokens)
    assert promises.hints(REQUEST, PLACEMENT, 0).session_tokens == 42
    assert promises.hints(replace(REQUEST, session=""), PLACEMENT, 0).session_tokens == 0


def test_promises_are_configured_and_must_not_be_negative() -> None:
    config = from_mapping(Config, {"promises": {"ttft_interactive_normal_s": 10.0}}, "gateway")
    assert config.promises == PromiseConfig(ttft_interactive_normal_s=10.0)
    with pytest.raises(ValueError, match="ttft_interactive_fast_s is -1"):
        PromiseConfig(ttft_interactive_fast_s=-1.0)


def test_the_engine_tells_of_a_placed_request_and_counts_what_its_session_got() -> None:
    engine = Engine(Config(promises=PromiseConfig(tpot_interactive_fast_ms=100.0)))
    engine.on_link_up("", 0)
    engine.on_arrive(REQUEST, 1 * S)
    assert engine.hints("r1", 1 * S) == NO_HINTS
    engine.on_placed("", PLACEMENT, 1 * S)
    assert engine.hints("r1", 1 * S + 200_000) == Hints(20, 90, 800_000, 100_000, 0)
    engine.on_tokens("r1", 64, 10, 2 * S)
    engine.on_finished("r1", Outcome.STOPPED, 2 * S)
    assert engine.hints("r1", 2 * S) == NO_HINTS
    engine.on_arrive(replace(REQUEST, request_id="r2"), 3 * S)
    engine.on_placed("", replace(PLACEMENT, request_id="r2"), 3 * S)
    assert engine.hints("r2", 3 * S).session_tokens == 64


def test_only_the_gateway_says_what_a_server_is_told() -> None:
    message = text_request("m", "Why?", {"max_tokens": 5})
    message.parameters["forebay_ttft_slo_us"].int64_param = 5
    message.parameters["forebay_session_tokens"].int64_param = 5
    message.parameters["temperature"].double_param = 0.5
    set_hints(message, Hints(predicted_tokens=20, ttft_slo_us=70))
    told = {name: value.int64_param for name, value in message.parameters.items() if name.startswith("forebay_")}
    assert told == {"forebay_predicted_tokens": 20, "forebay_ttft_slo_us": 70}
    assert "temperature" in message.parameters


def test_a_request_whose_parameters_are_its_sampling_is_left_alone() -> None:
    message = service_pb2.ModelInferRequest()
    message.parameters["max_tokens"].int64_param = 5
    message.parameters["forebay_ttft_slo_us"].int64_param = 5
    set_hints(message, Hints(predicted_tokens=20))
    assert list(message.parameters) == ["max_tokens"]
