"""The live page in a real Chromium, under load: what it shows, by keyboard, on a phone, in the dark."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.chromium import Chromium, Page, chromium, found
from tests.integration.made_up_fleet import Plant, plant

CHECKS = (Path(__file__).parent / "page_checks.js").read_text().strip()
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
SECTIONS = ["Fleet", "Queues by class", "Pools", "Traffic against its forecast", "Promises kept", "Answer lengths"]
SECTIONS += ["Recent decisions", "Scaling decisions", "Shadows"]
PHONE_WIDTH = 360


def asking(check: str, *arguments: object) -> str:
    """One of the checks as an expression."""
    return f"({CHECKS}).{check}({', '.join(map(json.dumps, arguments))})"


@contextlib.asynccontextmanager
async def looking(browser: Chromium, made: Plant) -> AsyncIterator[Page]:
    """The page in a tab of its own, in which nothing goes wrong and nothing is asked of anybody else."""
    page = await browser.page()
    await page.colours("light")
    await page.resize(1440, 900)
    await page.open(made.url, asking("ready"))
    yield page
    assert page.problems == []
    asked = {urlsplit(url).netloc for url in page.requests if not url.startswith("about:")}
    assert asked == {urlsplit(made.url).netloc}


async def keep_loading(made: Plant) -> None:
    while True:
        await made.step()
        await asyncio.sleep(1.0)


async def text(page: Page, selector: str) -> str:
    return str(await page.run(f"document.querySelector({json.dumps(selector)}).innerText"))


async def of(page: Page, selector: str, what: str) -> Any:
    """A property or the result of a method of an element."""
    return await page.run(f"document.querySelector({json.dumps(selector)}).{what}")


async def test_the_page_shows_the_fleet_by_keyboard_on_a_phone_and_in_the_dark(tmp_path: Path) -> None:
    path = found()
    async with plant(tmp_path, 40, history_s=60) as made, chromium(path) as browser:
        made.load.instances[0].state_reason = HOSTILE
        loading = asyncio.create_task(keep_loading(made))
        try:
            async with looking(browser, made) as page:
                await skips_to_the_content(page)
                await shows_everything(page)
                await answers_the_keyboard(page)
                await computes_what_it_should(page)
                await fits_a_phone(page)
                await changes_its_colours(page)
                await tells_who_is_away(page, made)
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)


async def shows_everything(page: Page) -> None:
    assert await page.run(asking("titles")) == SECTIONS
    assert await page.run(asking("named"))
    await page.until("document.querySelector('#fleet-counts').innerText.includes('38 ready')")
    assert "of 40" in await text(page, "#figures")
    assert "llama-3-8b" in await text(page, "#queues")
    assert "the budget of 96 GPUs" in await text(page, "#pools")
    assert await page.run("document.querySelectorAll('#traffic canvas, #slo canvas, #lengths canvas').length") == 4
    assert await page.run(asking("painted"))
    # Names are text, whatever they hold.
    await of(page, ".heat-box", "focus()")
    await page.press("ArrowDown")
    assert HOSTILE in await text(page, "#instance-details")
    assert await page.run("document.querySelectorAll('main img, main script').length") == 0


async def skips_to_the_content(page: Page) -> None:
    await page.press("Tab")
    assert await page.run("document.activeElement.className") == "skip"
    await page.press("Enter")
    assert await page.run("document.activeElement.id") == "content"


async def answers_the_keyboard(page: Page) -> None:
    await of(page, ".heat-box", "focus()")
    first = await of(page, ".heat-box", "getAttribute('aria-valuetext')")
    await page.press("ArrowDown")
    await page.press("ArrowDown")
    assert await of(page, ".heat-box", "getAttribute('aria-valuetext')") != first
    assert int(await of(page, ".heat-box", "getAttribute('aria-valuenow')")) >= 2
    await opens_decisions(page)
    await page.run(asking("choose", "qwen-2.5-32b"))
    await page.until("document.querySelector('#figures').innerText.includes('of 20')")


async def opens_decisions(page: Page) -> None:
    await of(page, "#decisions .open", "focus()")
    await page.press("ArrowDown")
    await page.press("Enter")
    await page.until("document.querySelector('#dialog').open && !!document.querySelector('#dialog table')")
    assert "has the fewest predicted tokens ahead" in await text(page, "#dialog")
    assert "would have won" in await text(page, "#dialog")
    await page.press("Escape")
    assert not await of(page, "#dialog", "open")
    assert await page.run("document.activeElement.className") == "open"
    await of(page, "#scaling .open", "focus()")
    await page.press("Enter")
    await page.until("document.querySelector('#dialog').open")
    assert "What the policy saw" in await text(page, "#dialog")
    await page.press("Escape")


async def computes_what_it_should(page: Page) -> None:
    """The pure functions of the scripts."""
    assert await page.run(asking("formats")) == [
        *("42 ms", "3 s", "90 s", "2 h", "0", "0.42", "27", "1,240", "18.3 k", "99.9 %", "100 %", "local-3"),
        *("held 350 ms", "kv utilization 50.0 %"),
    ]
    changed, between, whole, after = await page.run(asking("changes"))
    assert (changed, between) == (["a"], {"a": {"x": 4}, "b": {"z": 3}})
    assert (whole, after) == (["a", "b", "c"], {"c": {"w": 5}})
    assert await page.run(asking("places")) == [2, 202, True, 1, 24, 0.05, 0.5, 1]


async def fits_a_phone(page: Page) -> None:
    await page.resize(PHONE_WIDTH, 780)
    await page.until(f"innerWidth === {PHONE_WIDTH} && {asking('widest')} <= {PHONE_WIDTH}")
    assert await page.run("document.documentElement.scrollWidth") <= PHONE_WIDTH
    await page.resize(1440, 900)


async def changes_its_colours(page: Page) -> None:
    """The system's first, then those chosen."""
    back = "getComputedStyle(document.body).backgroundColor"
    await page.colours("dark")
    await page.until(f"{back} === 'rgb(16, 21, 27)'")
    await of(page, "#theme", "click()")
    await page.until(f"{back} === 'rgb(245, 246, 248)'")
    assert "light" in await of(page, "#theme", "getAttribute('aria-label')")
    await of(page, "#theme", "click()")
    await of(page, "#theme", "click()")
    await page.until(f"{back} === 'rgb(16, 21, 27)'")
    for scheme in ("light", "dark"):
        await page.run(f"document.documentElement.dataset.theme = {scheme!r}")
        for ink in ("ink", "muted", "accent", "over", "good"):
            # AA asks 4.5 of text, and 3 of bold words and signs.
            assert await page.run(asking("contrast", ink)) >= (3.0 if ink == "over" else 4.5), (scheme, ink)


async def tells_who_is_away(page: Page, made: Plant) -> None:
    await made.parts["autoscaler"].stop(0)
    await page.until("document.querySelector('#notes').innerText.includes('autoscaler away')")
    await page.until("document.querySelector('#pools').innerText.includes('does not answer')")
    assert await of(page, "#notes", "getAttribute('role')") == "status"
    made.process.kill()
    await page.until("document.body.classList.contains('stale')")
    assert (await text(page, "#clock")).startswith("no connection since")
    # What the browser says of the connection that broke is no fault of the page.
    page.problems = [one for one in page.problems if "events" not in one]


def test_without_a_browser_the_reason_to_skip_names_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(pytest.skip.Exception, match=r"compose/tools.sh chromium"):
        found()
