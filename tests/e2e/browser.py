"""A headless Chromium driven over its DevTools protocol: open a page, wait for words on it, take a picture."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.waiting import eventually

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
"""Nothing of this talks to anything but the page that is asked for."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
START_S = 30.0
PAGE_S = 45.0
"""Longest wait for words on a page, on a busy machine."""
TEXT = "document.body.innerText"


def find_browser() -> str | None:
    """Return the path of a Chromium, or none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a browser of its own, with an empty profile: ``with Browser() as page: page.open(url)``."""

    def __init__(self, width: int = 1440, height: int = 1000) -> None:
        self._size = (width, height)
        self._ids = itertools.count(1)
        self._profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)

    def __enter__(self) -> Self:
        """Start the browser and attach to its page."""
        executable = find_browser()
        assert executable is not None, "no Chromium on the PATH"
        width, height = self._size
        command = [executable, *FLAGS, f"--user-data-dir={self._profile.name}", f"--window-size={width},{height}"]
        self._process = subprocess.Popen(
            [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._socket = self._attach()
        self.send("Page.enable")
        self.resize(width, height)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the browser."""
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    def _attach(self) -> ClientConnection:
        port_file = Path(self._profile.name, "DevToolsActivePort")
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                port = port_file.read_text(encoding="utf-8").splitlines()[0]
                targets = httpx.get(f"http://127.0.0.1:{port}/json/list", timeout=5, trust_env=False).json()
            except (OSError, IndexError, httpx.HTTPError):
                time.sleep(0.1)
                continue
            page = next((target for target in targets if target["type"] == "page"), None)
            if page is not None:
                return connect(page["webSocketDebuggerUrl"], max_size=2**26, proxy=None)
        self._process.kill()
        raise AssertionError(f"the browser did not start within {START_S:.0f} s (exit {self._process.wait()})")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Change the size of the page's window, in pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def open(self, url: str, *words: str) -> str:
        """Open a page, wait until all words are on it, and return its visible text."""
        self.send("Page.navigate", url=url)
        return self.wait_for(*words)

    def wait_for(self, *words: str) -> str:
        """Return the page's visible text once it holds all words."""
        deadline = time.monotonic() + PAGE_S
        while True:
            text = str(self.run(f"document.body ? {TEXT} : ''"))
            missing = [word for word in words if word not in text]
            if not missing:
                return text
            assert time.monotonic() < deadline, f"not on the page after {PAGE_S:.0f} s: {missing}; it says:\n{text}"
            time.sleep(0.2)

    def wait_until(self, expression: str) -> Any:
        """Return the value of a JavaScript expression once it is true: pages go on laying out what they show."""
        return eventually(lambda: self.run(expression), expression, within_s=PAGE_S, pause_s=0.2)

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression on the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, text: str) -> None:
        """Click the innermost element that shows exactly this text, as a mouse does."""
        place = self.run(
            "(() => { const found = [...document.querySelectorAll('body *')]"
            f".filter(e => e.innerText && e.innerText.trim() === {json.dumps(text)} && e.offsetParent);"
            " if (!found.length) return null; const last = found[found.length - 1];"
            " last.scrollIntoView({block: 'center'}); const box = last.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        assert place, f"nothing on the page shows exactly {text!r}"
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def fill(self, label: str, text: str) -> None:
        """Type a text into the first field below exactly this label, as a keyboard does.

        A page that is still laying out may put another field in the place of the one that was typed into: a person sees
        that and types again.
        """
        eventually(lambda: self._type(label, text), f"{text!r} in the field {label!r}", within_s=PAGE_S, pause_s=0.5)

    def _type(self, label: str, text: str) -> bool:
        """Type, and tell whether the text stands in a field that stays."""
        field = (
            "(() => { for (const shown of document.querySelectorAll('label, span')) {"
            f" if (!shown.offsetParent || shown.innerText.trim() !== {json.dumps(label)}) continue;"
            " for (let near = shown, up = 0; near && up < 6; near = near.parentElement, up++) {"
            " const field = near.querySelector('textarea, input'); if (field) return field; } }"
            " return null; })()"
        )
        holds = f"{field}?.value === {json.dumps(text)}"
        if self.run(holds):
            return True
        ready = "field && (field.scrollIntoView({block: 'center'}), field.focus(), field.select(), true)"
        if self.run(f"(field => {ready})({field})"):
            self.send("Input.insertText", text=text)
        return False  # looked at again after a moment, when a page that puts another field there has done so

    def picture(self) -> bytes:
        """Return what the window shows, as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
