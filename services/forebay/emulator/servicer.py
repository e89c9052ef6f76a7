"""Triton's gRPC inference service over an emulated repository."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from functools import partial
from typing import Any, TypeAlias

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.core.errors import InvalidArgument, Unimplemented
from forebay.emulator.faults import Faults
from forebay.emulator.host import ModelStats
from forebay.emulator.model_config import VERSION, model_config, model_metadata
from forebay.emulator.orca import report_of
from forebay.emulator.repository import Entry, Repository
from forebay.emulator.stream import StreamSession
from forebay.wire import orca
from forebay.wire.tracing import OFF, TRACEPARENT, Span, Tracer

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

SERVER_VERSION = "2.51.0"
"""The Triton whose behaviour is emulated."""

EXTENSIONS = (
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)


class InferenceServicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Health, metadata, repository control, statistics and decoupled streaming; the rest is UNIMPLEMENTED."""

    def __init__(self, repository: Repository, faults: Faults, tracer: Tracer = OFF) -> None:
        self._tracer = tracer
        self._repository = repository
        self._faults = faults

    async def ServerLive(self, request: object, context: Context) -> service_pb2.ServerLiveResponse:
        """Whether the process is past provisioning, image and runtime."""
        return service_pb2.ServerLiveResponse(live=self._repository.live)

    async def ServerReady(self, request: object, context: Context) -> service_pb2.ServerReadyResponse:
        """Whether every model that should be loaded is."""
        return service_pb2.ServerReadyResponse(ready=self._repository.ready)

    async def ModelReady(
        self, request: service_pb2.ModelReadyRequest, context: Context
    ) -> service_pb2.ModelReadyResponse:
        """Whether a model takes requests; false for one that does not exist."""
        ready = any(
            entry.spec.name == request.name and entry.host is not None and request.version in ("", VERSION)
            for entry in self._repository.entries()
        )
        return service_pb2.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: object, context: Context) -> service_pb2.ServerMetadataResponse:
        """Name, version and extensions, as of the Triton that is emulated."""
        return service_pb2.ServerMetadataResponse(name="triton", version=SERVER_VERSION, extensions=EXTENSIONS)

    async def ModelMetadata(
        self, request: service_pb2.ModelMetadataRequest, context: Context
    ) -> service_pb2.ModelMetadataResponse:
        """Inputs and outputs of a model that is ready."""
        return model_metadata(self._repository.find(request.name, request.version).spec)

    async def ModelConfig(
        self, request: service_pb2.ModelConfigRequest, context: Context
    ) -> service_pb2.ModelConfigResponse:
        """Configuration of a model that is ready, with the parameters of its load."""
        host = self._repository.find(request.name, request.version).host
        assert host is not None
        return service_pb2.ModelConfigResponse(config=model_config(host.spec))

    async def ModelStatistics(
        self, request: service_pb2.ModelStatisticsRequest, context: Context
    ) -> service_pb2.ModelStatisticsResponse:
        """Counts and durations of one model that is ready, or of all."""
        ready = [entry for entry in self._repository.entries() if entry.host is not None]
        chosen = [entry for entry in ready if request.name in ("", entry.spec.name)]
        if request.name and not chosen:
            raise InvalidArgument(f"requested model '{request.name}' is not available")
        return service_pb2.ModelStatisticsResponse(model_stats=[_statistics(entry) for entry in chosen])

    async def ModelInfer(
        self, request: service_pb2.ModelInferRequest, context: Context
    ) -> service_pb2.ModelInferResponse:
        """Always an error: the models are decoupled."""
        self._repository.find(request.model_name, request.model_version)
        raise Unimplemented("ModelInfer RPC doesn't support models with decoupled transaction policy")

    async def ModelStreamInfer(
        self, messages: AsyncIterable[service_pb2.ModelInferRequest], context: Context
    ) -> AsyncIterator[service_pb2.ModelStreamInferResponse]:
        """Runs each request that arrives and streams the responses of all."""
        self._faults.check_refusal()
        metadata = {str(key): str(value).lower() for key, value in context.invocation_metadata() or ()}
        # As in Triton, whoever sends a traceparent is traced; where nobody does, nothing begins here.
        begin = partial(self._begin, metadata) if self._tracer.is_on and TRACEPARENT in metadata else None
        session = StreamSession(self._repository, self._faults, metadata.get("triton_grpc_error") == "true", begin)
        async for response in session.run(messages):
            yield response
        if orca.FORMAT in metadata and session.host is not None:
            trailer = orca.trailer_of(report_of(session.host), metadata[orca.FORMAT])
            context.set_trailing_metadata((trailer,) if trailer else ())

    def _begin(self, metadata: Mapping[str, str], model: str, request_id: str) -> Span | None:
        """The span of one request, named and described as Triton does it."""
        attributes = {"triton.model_name": model, "triton.model_version": VERSION, "triton.request_id": request_id}
        return self._tracer.begin("InferRequest", "server", metadata, attributes)

    async def RepositoryIndex(
        self, request: service_pb2.RepositoryIndexRequest, context: Context
    ) -> service_pb2.RepositoryIndexResponse:
        """All models of the repository with their states, or those that are ready."""
        answer = service_pb2.RepositoryIndexResponse()
        for entry in self._repository.entries():
            if entry.state == "READY" or not request.ready:
                version = VERSION if entry.state else ""
                answer.models.add(name=entry.spec.name, version=version, state=entry.state, reason=entry.reason)
        return answer

    async def RepositoryModelLoad(
        self, request: service_pb2.RepositoryModelLoadRequest, context: Context
    ) -> service_pb2.RepositoryModelLoadResponse:
        """Loads a model and returns when it is ready; INTERNAL where it cannot be loaded."""
        config_json = request.parameters["config"].string_param if "config" in request.parameters else ""
        # As in Triton, a load goes on when whoever asked for it has gone.
        failure = await asyncio.shield(self._repository.load(request.model_name, config_json))
        if failure:
            await context.abort(grpc.StatusCode.INTERNAL, failure)
        return service_pb2.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: service_pb2.RepositoryModelUnloadRequest, context: Context
    ) -> service_pb2.RepositoryModelUnloadResponse:
        """Stops taking requests for a model; those in flight end first."""
        self._repository.unload(request.model_name)
        return service_pb2.RepositoryModelUnloadResponse()

    async def _unimplemented(self, request: object, context: Context) -> None:
        """Shared memory, tracing and log settings."""
        raise Unimplemented("the emulator has no shared memory, traces or log settings")

    SystemSharedMemoryStatus = SystemSharedMemoryRegister = SystemSharedMemoryUnregister = _unimplemented
    CudaSharedMemoryStatus = CudaSharedMemoryRegister = CudaSharedMemoryUnregister = _unimplemented
    TraceSetting = LogSettings = _unimplemented


def _statistics(entry: Entry) -> service_pb2.ModelStatistics:
    stats: ModelStats = entry.stats
    answer = service_pb2.ModelStatistics(
        name=entry.spec.name,
        version=VERSION,
        last_inference=stats.last_us // 1_000,
        inference_count=stats.success_count,
        execution_count=stats.success_count,
    )
    for name, count, duration_us in (
        ("success", stats.success_count, stats.request_us),
        ("fail", sum(stats.failure_counts.values()), 0),
        ("queue", stats.success_count, stats.queue_us),
        ("compute_infer", stats.success_count, max(0, stats.request_us - stats.queue_us)),
    ):
        duration = getattr(answer.inference_stats, name)
        duration.count, duration.ns = count, duration_us * 1_000
    return answer
