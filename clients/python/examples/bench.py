"""How many requests a second this client places and finishes: callers in a loop on one connection, one JSON line.

With --blocking each caller is a thread of the blocking client, else a task of the asynchronous one.
"""

import argparse
import asyncio
import json
import threading
import time

from lmaas.scheduler.v1 import request_pb2

from lmaas_client import Addresses, AsyncClient, Client, ForebayError, new_request

WARM_UP_S = 1.0
PROMPT = "Write a haiku."


class Figures:
    """What the callers saw."""

    def __init__(self) -> None:
        self.places_s: list[float] = []
        self.failed_count = 0

    def line(self, language: str, in_flight: int, seconds: float) -> str:
        """The same as one JSON object; latencies are those of place alone."""
        ordered = sorted(self.places_s) or [0.0]
        count = len(self.places_s)
        found = {
            "language": language,
            "in_flight": in_flight,
            "seconds": seconds,
            "decision_count": count,
            "decisions_per_s": count / seconds,
            "p50_us": ordered[count // 2] * 1e6,
            "p99_us": ordered[int(count * 0.99)] * 1e6,
            "failed_count": self.failed_count,
        }
        return json.dumps(found)


async def caller(client: AsyncClient, model: str, until_s: float, figures: Figures) -> None:
    """Places and finishes one request after the other."""
    while time.perf_counter() < until_s:
        request = new_request(model, PROMPT, prompt_tokens=6, tokens_max=16)
        start_s = time.perf_counter()
        try:
            placement = await client.place(request)
            placed_s = time.perf_counter() - start_s
            await client.finish(placement.lease_id, request_pb2.OUTCOME_STOPPED, 4)
        except ForebayError:
            figures.failed_count += 1
        else:
            figures.places_s.append(placed_s)


def blocking_caller(client: Client, model: str, until_s: float, figures: Figures) -> None:
    """The same on a thread."""
    while time.perf_counter() < until_s:
        request = new_request(model, PROMPT, prompt_tokens=6, tokens_max=16)
        start_s = time.perf_counter()
        try:
            placement = client.place(request)
            placed_s = time.perf_counter() - start_s
            client.finish(placement.lease_id, request_pb2.OUTCOME_STOPPED, 4)
        except ForebayError:
            figures.failed_count += 1
        else:
            figures.places_s.append(placed_s)


async def measure(given: argparse.Namespace) -> str:
    """Runs the callers of the asynchronous client, once to warm up."""
    async with AsyncClient(Addresses(scheduler=given.scheduler)) as client:
        for seconds in (WARM_UP_S, given.seconds):
            figures, start_s = Figures(), time.perf_counter()
            until_s = start_s + seconds
            await asyncio.gather(*(caller(client, given.model, until_s, figures) for _ in range(given.in_flight)))
        return figures.line("python", given.in_flight, time.perf_counter() - start_s)


def measure_blocking(given: argparse.Namespace) -> str:
    """Runs the callers of the blocking client, once to warm up."""
    with Client(Addresses(scheduler=given.scheduler)) as client:
        for seconds in (WARM_UP_S, given.seconds):
            figures, start_s = Figures(), time.perf_counter()
            arguments = (client, given.model, start_s + seconds, figures)
            threads = [threading.Thread(target=blocking_caller, args=arguments) for _ in range(given.in_flight)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return figures.line("python blocking", given.in_flight, time.perf_counter() - start_s)


def main() -> None:
    """Reads the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheduler", default="127.0.0.1:7101")
    parser.add_argument("--model", default="llama-8b")
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--blocking", action="store_true")
    given = parser.parse_args()
    print(measure_blocking(given) if given.blocking else asyncio.run(measure(given)))


if __name__ == "__main__":
    main()
