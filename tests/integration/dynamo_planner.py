"""A real planner of Dynamo, as a script for a Python that has one: its registry, its transport, its pipeline of a tick.

It prints one JSON object a line: {"gateway": address}, then after a plugin has registered {"plugins": [ids]}, then what
each tick predicted, then after the plugin has left {"plugins": []}. Arguments: a shared secret, and the ticks as JSON
[[requests, prompt tokens, answer tokens], ...], one each tenth of a second.
"""

import asyncio
import functools
import json
import sys
import types
from pathlib import Path
from typing import Any

WINDOW_S = 0.1

# The package itself imports connectors to clusters, Dynamo's compiled runtime, and a simulator on no public index.
# Its plugins' side, which is what runs here, calls none of them: these names stand for them.
package = types.ModuleType("dynamo.planner")
package.__path__ = [str(Path(entry) / "dynamo" / "planner") for entry in sys.path]
sys.modules["dynamo.planner"] = package
for name in (
    "aisimulate_core",
    "aisimulate_core._native",
    "aisimulate_core.sdk",
    "dynamo._core",
    "dynamo.llm",
    "dynamo.runtime",
    "dynamo.runtime.logging",
):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__getattr__ = lambda _: object  # type: ignore[method-assign]

from dynamo.planner.plugins.clock import WallClock  # noqa: E402
from dynamo.planner.plugins.orchestrator.orchestrator import LocalPlannerOrchestrator  # noqa: E402
from dynamo.planner.plugins.registry.auth.static_secret import StaticSecretAuth  # noqa: E402
from dynamo.planner.plugins.registry.circuit_breaker import CircuitBreaker  # noqa: E402
from dynamo.planner.plugins.registry.gateway import start_gateway_server  # noqa: E402
from dynamo.planner.plugins.registry.server import PluginRegistryServer  # noqa: E402
from dynamo.planner.plugins.scheduler import PluginScheduler  # noqa: E402
from dynamo.planner.plugins.transport.config import TransportConfig, make_transport_for_endpoint  # noqa: E402
from dynamo.planner.plugins.types import ObservationData, PipelineContext, TrafficMetrics  # noqa: E402


def tell(**values: Any) -> None:
    print(json.dumps(values), flush=True)


async def main(secret: str, ticks: list[list[float]]) -> None:
    clock = WallClock()
    breaker = CircuitBreaker(clock)
    factory = functools.partial(make_transport_for_endpoint, config=TransportConfig(allow_insecure_grpc=True))
    registry = PluginRegistryServer(clock, StaticSecretAuth({secret: "forebay"}), breaker, factory)
    scheduler = PluginScheduler(registry, breaker, clock)
    orchestrator = LocalPlannerOrchestrator(
        registry=registry, scheduler=scheduler, circuit_breaker=breaker, clock=clock
    )
    server, address = await start_gateway_server(registry, listen="127.0.0.1:0", allow_insecure=True)
    tell(gateway=address)
    await until(lambda: list(registry.all_plugins()))
    tell(plugins=[one.plugin_id for one in registry.all_plugins()])
    for number, (requests, isl, osl) in enumerate(ticks):
        traffic = TrafficMetrics(duration_s=WINDOW_S, num_req=requests, isl=isl, osl=osl)
        context = PipelineContext(request_id=f"t{number}", observations=ObservationData(traffic=traffic))
        outcome = await orchestrator.tick(context, {})
        predicted = outcome.predict_outcome.prediction if outcome.predict_outcome else None
        tell(predicted=predicted.model_dump() if predicted else None)
        await asyncio.sleep(WINDOW_S)
    await until(lambda: not list(registry.all_plugins()))
    tell(plugins=[])
    await server.stop(0)


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
