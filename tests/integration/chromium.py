"""A headless Chromium, driven by its DevTools protocol over a pipe: nothing but the browser itself is needed."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT_S = 120.0
POLL_S = 0.1


def found() -> str:
    """The path of a Chromium; skips the test where there is none."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium here; install it with: compose/tools.sh chromium (or name one in CHROMIUM)")
    return path


class Page:
    """One tab. `problems` are errors of the console, exceptions, and what the content policy refused."""

    def __init__(self, browser: "Chromium", session: str) -> None:
        self._browser, self._session = browser, session
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.received_bytes = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol to this tab."""
        return await self._browser.call(method, self._session, **parameters)

    async def run(self, expression: str) -> Any:
        """The value of an expression, awaited where it is a promise. Raises AssertionError where it throws."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Waits until an expression is true, and gives its value."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (value := await self.run(expression)):
                    await asyncio.sleep(POLL_S)
                return value
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s:.0f} s: {expression[-200:]}; {self.problems[:3]}") from None

    async def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        """Gives the page this size in CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    async def colours(self, scheme: str) -> None:
        """Says that the reader prefers "light" or "dark"."""
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def open(self, url: str, ready: str = "document.readyState === 'complete'") -> None:
        """Goes to an address and waits until an expression is true there.

        A machine whose network interfaces come and go, as beside containers, breaks loads: these are tried again.
        """
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(TIMEOUT_S):
            while not await self.run(ready):
                if any("ERR_NETWORK_CHANGED" in one for one in self.problems):
                    self.problems.clear()
                    await self.call("Page.navigate", url=url)
                await asyncio.sleep(POLL_S)

    async def press(self, key: str, shift: bool = False) -> None:
        """Presses and releases a key by its name: "Tab", "Enter", "ArrowDown", "Escape"."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "ArrowRight": 39, "End": 35}
        text = {"text": "\r"} if key == "Enter" else {}
        same = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": 8 if shift else 0}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **same, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    async def picture(self, path: Path, whole: bool = True) -> None:
        """Saves a PNG of the page."""
        clip = {}
        if whole:
            size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
            clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **clip)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))

    def note(self, method: str, parameters: dict[str, Any]) -> None:
        """Takes an event of the protocol."""
        if method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(
                " ".join(str(one.get("value") or one.get("description")) for one in parameters["args"])
            )
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Network.dataReceived":
            self.received_bytes += parameters["encodedDataLength"] or parameters["dataLength"]


class Chromium:
    """A browser process; commands go to it as JSON with a zero byte after each."""

    def __init__(self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, write_to: int) -> None:
        self._process, self._reader, self._write_to = process, reader, write_to
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    async def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """One command. Raises AssertionError where the browser refuses it."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters} | (
            {"sessionId": session} if session else {}
        )
        answer = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        await asyncio.to_thread(os.write, self._write_to, json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(TIMEOUT_S):
            found = await answer
        assert "error" not in found, f"{method}: {found['error']}"
        result: dict[str, Any] = found["result"]
        return result

    async def read(self) -> None:
        """Hands out answers and events for ever."""
        while True:
            message = json.loads((await self._reader.readuntil(b"\0"))[:-1])
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)
            elif page := self._pages.get(message.get("sessionId", "")):
                page.note(message["method"], message["params"])

    async def page(self) -> Page:
        """A new tab that tells of everything that happens in it."""
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
            await page.call(f"{domain}.enable")
        return page


@contextlib.asynccontextmanager
async def chromium(path: str) -> AsyncIterator[Chromium]:
    """A browser with a profile of its own, gone with everything in it at the end."""
    commands, answers = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        arguments = [
            path,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder}",
        ]
        # The browser reads commands from descriptor 3 and writes answers to 4.
        shell = 'in=$1; out=$2; shift 2; eval "exec \\"\\$@\\" 3<&$in 4>&$out"'
        command = ["bash", "-c", shell, "chromium", str(commands[0]), str(answers[1]), *arguments]
        process = await asyncio.to_thread(
            subprocess.Popen,
            command,
            pass_fds=(commands[0], answers[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(commands[0])
        os.close(answers[1])
        reader = asyncio.StreamReader(limit=2**26)
        pipe = os.fdopen(answers[0], "rb")
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        browser = Chromium(process, reader, commands[1])
        reading = asyncio.create_task(browser.read())
        try:
            yield browser
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(browser.call("Browser.close"), 5)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            transport.close()
            os.close(commands[1])
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                await asyncio.to_thread(process.wait)
