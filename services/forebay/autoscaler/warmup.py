"""Lets a new instance answer one small request before it counts as ready, so that no user waits for its first one.

The inputs are those of Triton's vLLM backend (`text_input`, `stream`, `sampling_parameters`) and of TensorRT-LLM's
ensemble (`text_input`, `max_tokens`), as far as the model's configuration names them.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.autoscaler.actuator import pool_of
from forebay.autoscaler.config import ModelConfig
from forebay.core.values import Instance

log = logging.getLogger(__name__)

TEXT = "Hello"
CONFIG_TIMEOUT_S, ANSWER_TIMEOUT_S = 5.0, 120.0
FINAL, WANTS_FINAL = "triton_final_response", "triton_enable_empty_final_response"
Encoded = tuple[str, bytes]
"""A tensor's type and its content."""


class WarmUp:
    """Sends the request for the pools that are configured for it.

    A model that needs other inputs is taken for warm; one that fails or does not answer in time is not warm yet.
    """

    def __init__(self, models: Sequence[ModelConfig]) -> None:
        self._tokens = {model.pool_name: model.warm_up_tokens for model in reversed(models)}
        self._tokens |= {
            model.name: model.warm_up_tokens for model in reversed(models) if model.name not in self._tokens
        }

    async def __call__(self, instance: Instance, stub: service_pb2_grpc.GRPCInferenceServiceStub) -> bool:
        """Whether the instance may take requests."""
        tokens = self._tokens.get(pool_of(instance), 0)
        if not tokens:
            return True
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await _is_warm(instance, tokens, stub)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            text = error.details() if isinstance(error, grpc.aio.AioRpcError) else "no answer in time"
            _tell(instance, f"not warm yet: {text}")
            return False


async def _is_warm(instance: Instance, tokens: int, stub: service_pb2_grpc.GRPCInferenceServiceStub) -> bool:
    request = service_pb2.ModelConfigRequest(name=instance.model)
    config = (await stub.ModelConfig(request, timeout=CONFIG_TIMEOUT_S)).config
    values = _values(tokens)
    missing = [one.name for one in config.input if not one.optional and one.name not in values]
    if missing or not config.input:
        _tell(instance, f"taken for warm: no warm-up is known for input {', '.join(missing) or 'of no name'}")
        return True
    message = service_pb2.ModelInferRequest(model_name=instance.model, id="warm-up")
    message.parameters[WANTS_FINAL].bool_param = True
    for tensor in config.input:
        if tensor.name in values:
            kind, content = values[tensor.name]
            batched = [1] if config.max_batch_size else []
            message.inputs.add(name=tensor.name, datatype=kind, shape=[*batched, *([1] * len(tensor.dims))])
            message.raw_input_contents.append(content)
    return await _is_answered(instance, message, stub)


async def _is_answered(instance: Instance, message: Any, stub: service_pb2_grpc.GRPCInferenceServiceStub) -> bool:
    async def requests() -> AsyncIterator[Any]:
        yield message

    async for answer in stub.ModelStreamInfer(requests()):
        if answer.error_message:
            _tell(instance, f"not warm yet: {answer.error_message}")
            return False
        if answer.infer_response.parameters[FINAL].bool_param:
            break
    return True


def _values(tokens: int) -> Mapping[str, Encoded]:
    sampling = json.dumps({"max_tokens": tokens, "temperature": 0})
    return {
        "text_input": ("BYTES", _bytes(TEXT)),
        "stream": ("BOOL", b"\x01"),
        "sampling_parameters": ("BYTES", _bytes(sampling)),
        "max_tokens": ("INT32", tokens.to_bytes(4, "little")),
    }


def _bytes(text: str) -> bytes:
    return len(text.encode()).to_bytes(4, "little") + text.encode()


def _tell(instance: Instance, text: str) -> None:
    log.warning("warm-up", extra={"fields": {"instance_id": instance.instance_id, "outcome": text}})
