"""Loads and unloads models on Tritons that run already, through their model repository API."""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.autoscaler.actuator import Survey
from forebay.core.errors import Unavailable
from forebay.core.values import Instance
from forebay.wire.channel import connect
from forebay.wire.errors import from_rpc_error

INDEX_TIMEOUT_S = 3.0
POLL_S = 0.1
LIVING = ("READY", "LOADING")
HELD = (*LIVING, "UNLOADING")
"""States in which a model takes memory: an unload returns before the model is gone."""


class RepositoryActuator:
    """Each instance is a model loaded on a server; the servers need --model-control-mode=explicit.

    `templates` are the instances that may be loaded, as they are while nothing is known of them; a model of theirs that
    is found on its server counts as loaded by us. A load runs in the background; when it fails, the survey says why.
    """

    def __init__(self, templates: Collection[Instance], load_timeout_s: float, unload_timeout_s: float) -> None:
        self._templates = {template.instance_id: template for template in templates}
        self._load_timeout_s = load_timeout_s
        self._unload_timeout_s = unload_timeout_s
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._loads: dict[str, asyncio.Task[str]] = {}

    async def start(self, instance: Instance) -> Instance | None:
        """Begins to load the model, unless that is under way."""
        known = self._loads.get(instance.instance_id)
        if known is None or known.done():
            self._loads[instance.instance_id] = asyncio.create_task(self._load(instance))
        return instance

    async def retire(self, instance: Instance) -> bool:
        """Always."""
        return True

    async def stop(self, instance: Instance) -> bool:
        """Unloads the model and waits until it is gone. Raises Unavailable when the server does not do it in time."""
        load = self._loads.pop(instance.instance_id, None)
        if load is not None:
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)
        await self._unload(instance)
        for _ in range(int(self._unload_timeout_s / POLL_S) + 1):
            states = await self._states(instance.grpc_address)
            if states is not None and states.get(instance.model) not in HELD:
                return True
            if states is not None and states[instance.model] == "READY":
                # A load that was under way when the unload came is done only now.
                await self._unload(instance)
            await asyncio.sleep(POLL_S)
        raise Unavailable(f"{instance.instance_id} is still there {self._unload_timeout_s:g} s after its unload")

    async def survey(self, expected: Collection[Instance]) -> Survey:
        """Asks every server what is loaded; nothing can be told of a server that does not answer."""
        addresses = sorted({one.grpc_address for one in [*expected, *self._templates.values()]})
        # What is loading now may be done when the answers are here, and they may be older than that.
        loading = set(self._loads)
        found = await asyncio.gather(*map(self._living, addresses))
        living = {address: models for address, models in zip(addresses, found, strict=True) if models is not None}
        alive = {
            key: template
            for key, template in self._templates.items()
            if template.model in living.get(template.grpc_address, ())
        }
        alive.update({one.instance_id: one for one in expected if one.model in living.get(one.grpc_address, ())})
        gone: dict[str, str] = {}
        for instance in expected:
            cause = self._cause(instance, living, loading)
            if cause:
                gone[instance.instance_id] = cause
                self._loads.pop(instance.instance_id, None)
        return Survey(alive, gone)

    def _cause(self, instance: Instance, living: Mapping[str, Collection[str]], loading: Collection[str]) -> str:
        """Why an expected instance has ended; empty when it has not, or when that cannot be told."""
        load = self._loads.get(instance.instance_id)
        if load is not None:
            return load.result() if load.done() and not load.cancelled() else ""
        if instance.instance_id in loading:
            return ""
        models = living.get(instance.grpc_address)
        return (
            "the server does not have the model loaded" if models is not None and instance.model not in models else ""
        )

    async def close(self) -> None:
        """Closes the channels; loads that run go on in their servers."""
        for load in self._loads.values():
            load.cancel()
        await asyncio.gather(*self._loads.values(), return_exceptions=True)
        for channel in self._channels.values():
            await channel.close()

    async def _load(self, instance: Instance) -> str:
        """Loads the model and returns why that failed; empty when it is loaded."""
        request = service_pb2.RepositoryModelLoadRequest(model_name=instance.model)
        try:
            await self._stub(instance).RepositoryModelLoad(request, timeout=self._load_timeout_s)
        except grpc.aio.AioRpcError as error:
            return f"its load failed: {from_rpc_error(error).message}"
        # From here on the server's index tells whether it is loaded.
        self._loads.pop(instance.instance_id, None)
        return ""

    async def _unload(self, instance: Instance) -> None:
        request = service_pb2.RepositoryModelUnloadRequest(model_name=instance.model)
        try:
            await self._stub(instance).RepositoryModelUnload(request, timeout=self._unload_timeout_s)
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"cannot unload {instance.instance_id}: {from_rpc_error(error).message}") from error

    async def _living(self, address: str) -> frozenset[str] | None:
        """The models that are loaded or being loaded; None when the server does not answer."""
        states = await self._states(address)
        return None if states is None else frozenset(model for model, state in states.items() if state in LIVING)

    async def _states(self, address: str) -> Mapping[str, str] | None:
        """The state of each model of a server; None when it does not answer."""
        with suppress(grpc.aio.AioRpcError):
            stub = self._stub_at(address)
            index = await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=INDEX_TIMEOUT_S)
            # Of a model with several versions, one that takes memory counts.
            return {model.name: model.state for model in sorted(index.models, key=lambda one: one.state in HELD)}
        return None

    def _stub(self, instance: Instance) -> service_pb2_grpc.GRPCInferenceServiceStub:
        return self._stub_at(instance.grpc_address)

    def _stub_at(self, address: str) -> service_pb2_grpc.GRPCInferenceServiceStub:
        if address not in self._channels:
            self._channels[address] = connect(address)
        return service_pb2_grpc.GRPCInferenceServiceStub(self._channels[address])
