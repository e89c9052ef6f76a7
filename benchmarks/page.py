"""What the live page costs: its load in a browser, its bytes, and each second of it, by the number of instances.

The metrics service runs as a process beside a made-up scheduler, autoscaler and predictor that tell of a fleet under
load over real gRPC; instances are scraped over HTTP. One Chromium looks, headless, without a GPU. "load" is from the
start of navigation until everything is drawn for the first time, the best of three. "update" is what one second's
change costs the page's main thread: script, layout and painting, in processor time, so that whatever else the machine
does is left out. "service" is the share of a core that the metrics service uses while nobody looks, and what it uses
more with one browser, scrapes of all instances every 2 s and 13 records a second included in both.

Bar: at 200 instances an update takes less than 50 ms, the page less than 1 MB, a second less than 100 kB.
Run: PYTHONPATH=services:clients/python:. python -m benchmarks.page [--quick] [--json FILE] [--picture FILE.png]
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import click
import httpx

from benchmarks import common
from tests.integration.chromium import Page, chromium, found
from tests.integration.made_up_fleet import Plant, plant

COUNTS = (10, 50, 200)
SECONDS = 20
HISTORY_S = 240
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
UPDATES = "document.documentElement.dataset.updates"
DRAWN = "Number(document.documentElement?.dataset.updates) > 0 && document.querySelectorAll('canvas').length > 3"


async def keep_loading(made: Plant) -> None:
    while True:
        await made.step()
        await asyncio.sleep(1.0)


def cpu_s(made: Plant) -> float:
    """Processor time of the metrics service so far."""
    fields = Path(f"/proc/{made.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def share_of_core(made: Plant, waiting: Awaitable[Any]) -> float:
    begin_s, used_s = time.perf_counter(), cpu_s(made)
    await waiting
    return (cpu_s(made) - used_s) / (time.perf_counter() - begin_s)


async def stream(url: str, change_count: int) -> tuple[int, float]:
    """Bytes of the first message, and of one of the changes after it."""
    sizes: list[int] = []
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http, http.stream("GET", f"{url}events") as answer:
        async for line in answer.aiter_lines():
            sizes += [len(line)] if line.startswith("data: ") else []
            if len(sizes) > change_count:
                break
    return sizes[0], statistics.mean(sizes[1:])


async def updates(page: Page, seconds: float) -> tuple[float, float]:
    """Milliseconds of processor time for each change: of the page's main thread, and of its scripts alone."""
    before, first = await thread_s(page), int(await page.run(UPDATES))
    await asyncio.sleep(seconds)
    after, last = await thread_s(page), int(await page.run(UPDATES))
    task_s, script_s = (after[name] - before[name] for name in ("TaskDuration", "ScriptDuration"))
    return 1e3 * task_s / (last - first), 1e3 * script_s / (last - first)


async def thread_s(page: Page) -> dict[str, float]:
    """What the main thread has used so far, in seconds of processor time by kind."""
    return {one["name"]: one["value"] for one in (await page.call("Performance.getMetrics"))["metrics"]}


async def measure(count: int, seconds: float, picture: str | None) -> dict[str, float]:
    """The figures of one fleet."""
    with tempfile.TemporaryDirectory() as folder:
        async with plant(Path(folder), count, HISTORY_S) as made, chromium(found()) as browser:
            loading = asyncio.create_task(keep_loading(made))
            await asyncio.sleep(3.0)
            idle = await share_of_core(made, asyncio.sleep(seconds / 2))
            page = await browser.page()
            await page.call("Performance.disable")
            await page.call("Performance.enable", timeDomain="threadTicks")
            await page.resize(1440, 900)
            loads = [await load_ms(page, made.url) for _ in range(3)]
            begin_bytes = page.received_bytes
            looking = await share_of_core(made, asyncio.sleep(seconds / 2))
            update_ms, script_ms = await updates(page, seconds)
            first_bytes, second_bytes = await stream(made.url, round(seconds / 2))
            if picture:
                await page.resize(1440, 1180)
                await asyncio.sleep(2.0)
                await page.picture(Path(picture), whole=False)
            loading.cancel()
            return {
                "load_ms": min(loads),
                "page_kb": begin_bytes / len(loads) / 1e3,
                "first_kb": first_bytes / 1e3,
                "second_kb": second_bytes / 1e3,
                "update_ms": update_ms,
                "script_ms": script_ms,
                "service_idle_share": idle,
                "service_looking_share": max(0.0, looking - idle),
            }


async def load_ms(page: Page, url: str) -> float:
    """From the start of navigation until everything has been drawn once."""
    await page.call("Network.clearBrowserCache")
    await page.call("Page.navigate", url="about:blank")
    await page.open(url, DRAWN)
    return float(await page.run("performance.now()"))


@click.command()
@common.options
@click.option("--picture", type=click.Path(dir_okay=False), help="Save a picture of the largest fleet there.")
def main(quick: bool, json_path: str | None, picture: str | None) -> None:
    """Prints what the live page costs."""
    report = common.Report("page", quick)
    counts, seconds = (COUNTS[-1:], 6.0) if quick else (COUNTS, float(SECONDS))
    rows: list[list[common.Cell]] = []
    for count in counts:
        one = asyncio.run(measure(count, seconds, picture if count == counts[-1] else None))
        report.figures.update(
            {f"{name.rsplit('_', 1)[0]}_{count}_{name.rsplit('_', 1)[1]}": value for name, value in one.items()}
        )
        rows.append([count, *one.values()])
    columns = ["instances", "load ms", "page kB", "first state kB", "a second kB", "update ms", "of it scripts"]
    report.table("The live page in a browser", columns, [row[:7] for row in rows])
    service = [[row[0], 100 * float(row[7]), 100 * float(row[8])] for row in rows]
    report.table("The metrics service, % of a core", ["instances", "nobody looks", "more with a browser"], service)
    report.close(json_path)


if __name__ == "__main__":
    main()
