"""How long it takes in containers from nothing to the first token: `python -m benchmarks.containers [--runs N]`.

Nothing means no container, network, volume or data; the images are there. The stack is the profile `emulated`, brought
up by the real compose binary on podman; a client asks again and again from the start, until an answer streams. Needs
root and the images of tests/containers/images.sh.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import httpx

from tests.containers.stack import IMAGE, PORTS, Stack, engine

HTTP = f"http://127.0.0.1:{PORTS['HTTP_PORTS']}"
PAGE = f"http://127.0.0.1:{PORTS['PAGE_PORT']}/"
BODY = {"model": "llama-8b", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "stream": True}
TIMEOUT_S, POLL_S = 180.0, 0.1
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """One start. Seconds since `docker compose up` was entered; the image in MiB."""

    created_s: float
    page_s: float
    first_token_s: float
    image_mib: float


def until(done: Callable[[], bool], began_s: float) -> float:
    """Seconds until it is done. Raises TimeoutError."""
    while time.perf_counter() - began_s < TIMEOUT_S:
        try:
            if done():
                return time.perf_counter() - began_s
        except httpx.TransportError:
            pass
        time.sleep(POLL_S)
    raise TimeoutError("the stack gave no token")


def has_token(http: httpx.Client) -> bool:
    """Whether a token of an answer comes."""
    with http.stream("POST", f"{HTTP}/v1/chat/completions", json=BODY) as answer:
        if answer.status_code != httpx.codes.OK:
            return False
        for line in answer.iter_lines():
            data = line.removeprefix("data: ")
            if data.startswith("{") and "error" in json.loads(data):
                return False
            if data.startswith("{") and json.loads(data)["choices"][0]["delta"].get("content"):
                return True
    return False


def measure(stack: Stack) -> Row:
    """Brings the stack up once."""
    stack.down()
    began_s = time.perf_counter()
    stack.up()
    created_s = time.perf_counter() - began_s
    with httpx.Client(timeout=5.0, trust_env=False) as http:
        page_s = until(lambda: http.get(PAGE).is_success, began_s)
        first_token_s = until(lambda: has_token(http), began_s)
    (image,) = json.loads(stack.podman("image", "inspect", IMAGE))
    return Row(created_s, page_s, first_token_s, image["Size"] / MIB)


@click.command()
@click.option("--runs", default=5, help="Starts from nothing.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="JSON with every run.")
def main(runs: int, output: Path | None) -> None:
    """Prints the median and the range over the runs."""
    with engine() as environment, tempfile.TemporaryDirectory() as folder:
        stack = Stack(environment, Path(folder))
        try:
            rows = [measure(stack) for _ in range(runs)]
        finally:
            stack.down()
    print(f"ten containers from nothing, {runs} runs; image {rows[0].image_mib:,.0f} MiB")
    print("| until | median | least | most |\n|---|--:|--:|--:|")
    names = {
        "created_s": "all containers are started",
        "page_s": "the page answers",
        "first_token_s": "the first token",
    }
    for name, what in names.items():
        values = [getattr(row, name) for row in rows]
        print(f"| {what} | {statistics.median(values):.1f} s | {min(values):.1f} s | {max(values):.1f} s |")
    if output:
        output.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
