"""A real Chromium without a window, driven over its DevTools protocol through a pipe: no port, no package, no network."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import io
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support.debian_packages import NotInstalled, install

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--force-prefers-reduced-motion",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
#: Chromium reads commands from descriptor 3 and writes to 4: put there by a Python that then becomes Chromium.
_BECOME = (
    "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 3); os.dup2(w, 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_PATIENCE_S = 60.0


def find() -> str | None:
    """Where Chromium is; where there is none, root gets it from Debian's packages. None where that cannot be."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        with contextlib.suppress(NotInstalled):
            install(("chromium",), ("chromium",))
        found = shutil.which("chromium")
    return found


class Page:
    """One tab. `complaints` are the errors and warnings on its console, `requests` the addresses that it asked for."""

    def __init__(self, browser: Browser, width: int, height: int) -> None:
        self._browser = browser
        self._target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.ask("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        browser.pages[self._session] = self
        self.complaints: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.resize(width, height)

    def ask(self, method: str, **parameters: Any) -> Any:
        return self._browser.ask(method, self._session, **parameters)

    def close(self) -> None:
        self._browser.ask("Target.closeTarget", targetId=self._target)

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)

    def open(self, url: str) -> None:
        self.complaints.clear()
        self.requests.clear()
        self.ask("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, (script, answer["exceptionDetails"])
        return answer["result"].get("value")

    def do(self, script: str) -> None:
        """Evaluates an expression whose value does not matter."""
        self.run(f"({script}, null)")

    def until(self, condition: str, seconds: float = _PATIENCE_S) -> None:
        """Waits for an expression to hold."""
        deadline = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < deadline, (condition, self.run("document.body.innerText"), self.complaints)
            time.sleep(0.05)

    def settled(self) -> None:
        """Waits until every tile in view has been drawn and nothing moves."""
        self.until("""(() => {
            const viewer = window.dreamViewer, world = viewer && viewer.world;
            if (!world || !world.getItemCount() || viewer.isAnimating?.()) return false;
            for (let i = 0; i < world.getItemCount(); i++) {
                const item = world.getItemAt(i);
                if (item.getOpacity() > 0 && !item.getFullyLoaded()) return false;
            }
            const [now, then] = [viewer.viewport.getBounds(true), viewer.viewport.getBounds(false)];
            return now.equals(then) && !world.needsDraw();
        })()""")
        # One more frame, so that what was drawn is on the screen.
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))")

    def key(self, name: str, *, down: bool = True, up: bool = True) -> None:
        text = {"text": name} if len(name) == 1 and down else {}
        if down:
            self.ask("Input.dispatchKeyEvent", type="keyDown", key=name, **text)
        if up:
            self.ask("Input.dispatchKeyEvent", type="keyUp", key=name)

    def download(self, directory: Path, pattern: str, act: Callable[[], None]) -> Path:
        """Return the file, of a name like `pattern`, that `act` has the page download into a directory."""
        directory.mkdir(parents=True, exist_ok=True)
        self.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(directory))
        act()
        deadline = time.monotonic() + 20
        while not (files := list(directory.glob(pattern))) or not files[0].stat().st_size:
            assert time.monotonic() < deadline, f"{pattern} did not arrive"
            time.sleep(0.05)
        return files[0]

    def drag(self, start: tuple[float, float], stop: tuple[float, float]) -> None:
        self.mouse("mousePressed", start)
        for part in (0.25, 0.5, 0.75, 1):
            self.mouse("mouseMoved", tuple(a + (b - a) * part for a, b in zip(start, stop, strict=True)), 1)
        self.mouse("mouseReleased", stop)

    def mouse(self, kind: str, at: tuple[float, ...], buttons: int = 0) -> None:
        self.ask(
            "Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", buttons=buttons, clickCount=1
        )  # fmt: skip

    def click(self, selector: str) -> None:
        x, y, width, height = self.box(selector)
        at = (x + width / 2, y + height / 2)
        self.mouse("mousePressed", at)
        self.mouse("mouseReleased", at)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """(x, y, width, height) of an element, CSS px."""
        found = self.run(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [b.x, b.y, b.width, b.height]; })()"
        )
        return tuple(found)

    def screenshot(self, path: Path | None = None) -> np.ndarray:
        """(height, width, 3) uint8, as it would be on the screen."""
        content = base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))

    def told(self, method: str, event: dict[str, Any]) -> None:
        match method:
            case "Runtime.consoleAPICalled" if event["type"] in ("error", "warning", "assert"):
                self.complaints.append(" ".join(str(one.get("value", one.get("description"))) for one in event["args"]))
            case "Runtime.exceptionThrown":
                details = event["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description", details["text"]))
            case "Log.entryAdded" if event["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests.append(event["request"]["url"])


class Browser:
    """A Chromium and the two ends of its pipe."""

    def __init__(self, executable: str, profile: Path) -> None:
        hers, mine_out = os.pipe()
        mine_in, hers_out = os.pipe()
        # Above those that they will be copied to.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (hers, hers_out)]
        os.close(hers)
        os.close(hers_out)
        command = [sys.executable, "-c", _BECOME, *map(str, ends), executable, *_FLAGS, f"--user-data-dir={profile}"]
        with (profile / "stderr").open("wb") as errors:
            self._process = subprocess.Popen(
                [*command, "about:blank"], pass_fds=ends, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            )
        for end in ends:
            os.close(end)
        self._in, self._out = mine_in, mine_out
        self._buffer = b""
        self._last = 0
        self._answers: dict[int, Any] = {}
        self.pages: dict[str, Page] = {}

    def page(self, width: int = 1280, height: int = 800) -> Page:
        return Page(self, width, height)

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """One command of the DevTools protocol and its answer; events on the way are told to their pages."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _PATIENCE_S
        while self._last not in self._answers:
            self._listen(deadline - time.monotonic(), method)
        answer = self._answers.pop(self._last)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _listen(self, seconds: float, method: str) -> None:
        ready, _, _ = select.select([self._in], [], [], max(0, seconds))
        assert ready, f"Chromium does not answer {method}"
        received = os.read(self._in, 1 << 20)
        assert received, f"Chromium has ended at {method}"
        *messages, self._buffer = (self._buffer + received).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].told(message["method"], message["params"])

    def close(self) -> None:
        try:
            self.ask("Browser.close")
            self._process.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        for end in (self._in, self._out):
            os.close(end)


@contextmanager
def opened(executable: str, profile: Path) -> Iterator[Browser]:
    profile.mkdir(parents=True, exist_ok=True)
    browser = Browser(executable, profile)
    try:
        yield browser
    finally:
        browser.close()
