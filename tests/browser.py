"""Headless Chromium driven over a pipe: pages are opened, keys pressed, and the page asked what it shows."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

OFFLINE = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip

PATIENCE = 60.0
"""Seconds within which the browser must answer."""

KEYS = {"Enter": 13, "Tab": 9, " ": 32}


class Browser:
    """One tab; what it says on its console and what it asks of the network is kept.

    Args:
        profile: Folder for the browser's own files.
    """

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()

        def fixed() -> None:  # the protocol's pipes are file descriptors 3 and 4
            first, second = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(first, 3)
            os.dup2(second, 4)

        command = [CHROMIUM, *OFFLINE, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen(
            command, preexec_fn=fixed, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._numbers, self._rest = itertools.count(1), b""
        self.console: list[str] = []
        self.requested: list[str] = []
        target = self._asked("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._asked("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.asked(f"{domain}.enable")

    def open(self, page: Path, width: int = 1200, height: int = 900) -> None:
        """Open a page in a window of this size, and wait until it is there."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.asked("Emulation.setDeviceMetricsOverride", metrics)
        self.asked("Page.navigate", {"url": page.as_uri()})
        end = time.monotonic() + PATIENCE
        while self.value("document.readyState + location.href") != "complete" + page.as_uri():
            assert time.monotonic() < end, "the page does not load"
            time.sleep(0.02)

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression is, as JSON."""
        found = self.asked("Runtime.evaluate", {"expression": expression, "returnByValue": True})
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key: a name of `KEYS`, or a character."""
        code = KEYS.get(key, ord(key[0].upper()))
        text = {"Enter": "\r", "Tab": ""}.get(key, key)
        down = {"type": "keyDown", "key": key, "windowsVirtualKeyCode": code, "text": text}
        self.asked("Input.dispatchKeyEvent", down)
        self.asked("Input.dispatchKeyEvent", {"type": "keyUp", "key": key, "windowsVirtualKeyCode": code})

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the page."""
        taken = self.asked("Page.captureScreenshot", {"captureBeyondViewport": whole, **self._clip(whole)})
        path.write_bytes(base64.b64decode(taken["data"]))

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(BrokenPipeError):
            self._send("Browser.close", {}, None)
        os.close(self._out)
        self.process.wait(PATIENCE)
        os.close(self._in)

    def asked(self, method: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call a method of the protocol on the tab."""
        return self._asked(method, arguments, self._session)

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.asked("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def _asked(
        self, method: str, arguments: dict[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        number = self._send(method, arguments or {}, session)
        while True:
            message = self._received()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                found: dict[str, Any] = message["result"]
                return found
            self._noted(message)

    def _send(self, method: str, arguments: dict[str, Any], session: str | None) -> int:
        number = next(self._numbers)
        asked = {"id": number, "method": method, "params": arguments} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(asked).encode() + b"\0")
        return number

    def _received(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], PATIENCE)[0], "the browser does not answer"
            more = os.read(self._in, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def _noted(self, message: dict[str, Any]) -> None:
        kind, said = message.get("method"), message.get("params", {})
        if kind in {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}:
            self.console.append(json.dumps(said))
        if kind == "Network.requestWillBeSent":
            self.requested.append(said["request"]["url"])
