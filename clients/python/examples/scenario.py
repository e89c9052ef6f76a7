"""The scenario that every client of Forebay runs against a live stack: one JSON object a step, exit status 0.

With --asynchronous the asynchronous clients run it.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from lmaas.common.v1 import instance_pb2
from lmaas.deferred.v1 import job_pb2
from lmaas.scheduler.v1 import decision_pb2, request_pb2

from lmaas_client import (
    Addresses,
    AsyncClient,
    AsyncDeferredClient,
    Client,
    DeferredClient,
    ForebayError,
    new_request,
)

PROMPT = "Write a haiku."


def tell(step: str, **values: Any) -> None:
    """Prints one step."""
    print(json.dumps({"step": step, **values}), flush=True)


def run(client: Client, deferred: DeferredClient, model: str) -> None:
    """The scenario, blocking."""
    request = new_request(model, PROMPT, prompt_tokens=6, tokens_max=64)
    [prediction] = client.predict(request)
    tell("predict", **quantiles(prediction))
    placement = client.place(request)
    tell("place", **placed(placement, client.place(request)))
    client.progress(placement.lease_id, 10)
    tell("progress")
    client.finish(placement.lease_id, request_pb2.OUTCOME_STOPPED, 17)
    tell("finish")
    tell("explain", **explained(client.explain(placement.decision_id)))
    try:
        client.place(new_request("", PROMPT, prompt_tokens=6))
    except ForebayError as error:
        tell("refuse", **refused(error))
    tell("watch_fleet", ready_count=ready_count(next(iter(client.watch_fleet()))))
    *_, job = deferred.watch(deferred.submit(bodies(model)).job_id)
    tell("deferred", **finished(job, list(deferred.results(job.job_id))))


async def run_asynchronously(client: AsyncClient, deferred: AsyncDeferredClient, model: str) -> None:
    """The scenario, asynchronous."""
    request = new_request(model, PROMPT, prompt_tokens=6, tokens_max=64)
    [prediction] = await client.predict(request)
    tell("predict", **quantiles(prediction))
    placement = await client.place(request)
    tell("place", **placed(placement, await client.place(request)))
    await client.progress(placement.lease_id, 10)
    tell("progress")
    await client.finish(placement.lease_id, request_pb2.OUTCOME_STOPPED, 17)
    tell("finish")
    tell("explain", **explained(await client.explain(placement.decision_id)))
    try:
        await client.place(new_request("", PROMPT, prompt_tokens=6))
    except ForebayError as error:
        tell("refuse", **refused(error))
    tell("watch_fleet", ready_count=ready_count(await anext(aiter(client.watch_fleet()))))
    submitted = await deferred.submit(bodies(model))
    *_, job = await gathered(deferred.watch(submitted.job_id))
    tell("deferred", **finished(job, await gathered(deferred.results(job.job_id))))


async def gathered(messages: AsyncIterator[Any]) -> list[Any]:
    """All of a stream."""
    return [message async for message in messages]


def quantiles(prediction: Any) -> dict[str, int]:
    """The predicted lengths in tokens."""
    return {f"p{share}": getattr(prediction.quantiles, f"p{share}_tokens") for share in (10, 50, 90, 97)}


def placed(first: request_pb2.Placement, second: request_pb2.Placement) -> dict[str, Any]:
    """Where a request went, and whether the same request went there again."""
    same = first.lease_id == second.lease_id
    return {"instance_id": first.instance_id, "lease_id": first.lease_id, "same_lease": same}


def explained(decision: decision_pb2.Decision) -> dict[str, Any]:
    """What was decided."""
    verdict = decision_pb2.Verdict.Name(decision.verdict).removeprefix("VERDICT_")
    return {"verdict": verdict, "instance_id": decision.instance_id, "candidate_count": len(decision.candidates)}


def refused(error: ForebayError) -> dict[str, Any]:
    """What is wrong with a request."""
    return {"code": error.code.name, "reason": error.reason, "violations": error.violations}


def ready_count(instances: Any) -> int:
    """How many instances take requests."""
    return sum(one.state == instance_pb2.INSTANCE_STATE_READY for one in instances)


def bodies(model: str) -> dict[str, dict[str, Any]]:
    """Two requests that nobody waits for."""
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8}
    return {"a": body, "b": body}


def finished(job: job_pb2.Job, results: list[job_pb2.Result]) -> dict[str, Any]:
    """How a job ended."""
    for result in results:
        if result.status_code != 200:
            raise SystemExit(f"{result.custom_id} was answered with {result.status_code}: {result.body}")
    status = job_pb2.JobStatus.Name(job.status).removeprefix("JOB_STATUS_")
    return {"status": status, "results": sorted(result.custom_id for result in results)}


async def main_asynchronously(where: argparse.Namespace, addresses: Addresses) -> None:
    """Opens the asynchronous clients."""
    async with AsyncClient(addresses) as client, AsyncDeferredClient(where.gateway) as deferred:
        await run_asynchronously(client, deferred, where.model)


def main() -> None:
    """Reads the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheduler", default="127.0.0.1:7101")
    parser.add_argument("--predictor", default="127.0.0.1:7102")
    parser.add_argument("--autoscaler", default="127.0.0.1:7103")
    parser.add_argument("--gateway", default="127.0.0.1:7081")
    parser.add_argument("--model", default="llama-8b")
    parser.add_argument("--asynchronous", action="store_true")
    where = parser.parse_args()
    addresses = Addresses(where.scheduler, where.predictor, where.autoscaler)
    try:
        if where.asynchronous:
            asyncio.run(main_asynchronously(where, addresses))
        else:
            with Client(addresses) as client, DeferredClient(where.gateway) as deferred:
                run(client, deferred, where.model)
    except ForebayError as error:
        raise SystemExit(f"{error.reason or error.code.name}: {error}") from error


if __name__ == "__main__":
    main()
