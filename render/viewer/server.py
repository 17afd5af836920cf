"""`view run=DIR`: shows a run in the browser, from a small server on this machine alone."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from render.config.options import check_switches, split_words
from render.errors import DamagedCheckpoint, UserError
from render.pages import openseadragon
from render.storage.url import checked_url
from render.storage.user_paths import user_path
from render.system import interrupts
from render.terminal.text import encoded
from render.viewer.live_run import LiveRun, NoTile

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_IDLE_S = 60.0
_TILE = re.compile(r"/(dream|source)/([0-9a-f]{1,32}-[0-9a-f]{1,16})_files/(\d{1,2})/(\d{1,7})_(\d{1,7})\.jpg")
#: What the page may load: itself, and nothing from elsewhere.
_POLICY = "default-src 'self' 'unsafe-inline' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HTML, _TEXT = "text/html; charset=utf-8", "text/plain; charset=utf-8"
_JSON, _SCRIPT = "application/json", "text/javascript"


def view(words: Sequence[str], say: Callable[[str], None] = print) -> None:
    """Serves the run that `run=DIR` among the words names until it is interrupted; `port=0` takes a free port, and
    `open=false` leaves the browser alone. Raises `UserError`.
    """
    options = _options(words)
    url = checked_url(options["run"], "run")
    if url is not None:
        raise UserError(f"run={url} is not on this machine: make fetch run={url} canvas=true brings it")
    run = LiveRun(user_path(options["run"], "run"))
    script = None
    try:
        script = openseadragon.load().script
    except UserError as error:
        say(f"the page can show no more than this: {error}; {openseadragon.OVERRIDE}=FILE names an openseadragon.min.js")
    with serving(run, script, _port(options["port"])) as server:
        say(f"{options['run']} is shown at {server.url} (Ctrl-C ends it)")
        sys.stdout.flush()
        if options["open"] == "true":
            _open_browser(server.url)
        interrupts.hold()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


class ViewServer(ThreadingHTTPServer):
    """Answers for one run, on loopback."""

    daemon_threads = True

    def __init__(self, run: LiveRun, script: bytes | None, port: int) -> None:
        self.run = run
        self.script = script
        super().__init__((_HOST, port), _Handler)
        # Names under which a browser on this machine may ask: a page from elsewhere could bring another.
        self.hosts = {f"{host}:{self.server_port}" for host in (_HOST, "localhost")}

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A browser that hangs up is no error; anything else goes to the log."""
        if not isinstance(sys.exception(), OSError):
            log.exception("while answering the browser")


def serving(run: LiveRun, script: bytes | None, port: int = 0) -> ViewServer:
    """A server bound to `port` of this machine (0: any that is free); `UserError` where that is taken."""
    try:
        return ViewServer(run, script, port)
    except OSError as error:
        reason = str(error.strerror).lower()
        raise UserError(f"port={port} cannot be used ({reason}): choose another, or port=0 for any that is free") from None


class _Handler(BaseHTTPRequestHandler):
    """Knows a handful of addresses. None of them is ever turned into a path of a file."""

    server: ViewServer
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    # Small answers should not wait for more.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        try:
            status, kind, content, keep = self._answer()
        except NoTile as error:
            status, kind, content, keep = HTTPStatus.NOT_FOUND, _TEXT, f"{error}\n".encode(), False
        except DamagedCheckpoint as error:
            # Most likely a newer checkpoint is being written over it.
            status, kind, content, keep = HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"{error}\n".encode(), False
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        # A tile's address names its checkpoint, so what it shows never changes.
        self.send_header("Cache-Control", "max-age=86400, immutable" if keep else "no-store")
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_GET

    def _answer(self) -> tuple[HTTPStatus, str, bytes, bool]:
        run = self.server.run
        if self.headers.get("Host") not in self.server.hosts:
            return HTTPStatus.FORBIDDEN, _TEXT, b"this server is for the browser on its own machine\n", False
        address = self.path.partition("?")[0]
        match address:
            case "/":
                return HTTPStatus.OK, _HTML, encoded(run.page()), False
            case "/status.json":
                return HTTPStatus.OK, _JSON, json.dumps(run.status()).encode(), False
            case "/openseadragon.min.js" if self.server.script is not None:
                return HTTPStatus.OK, _SCRIPT, self.server.script, True
        tile = _TILE.fullmatch(address)
        if tile is None:
            return HTTPStatus.NOT_FOUND, _TEXT, b"there is nothing here\n", False
        level, column, row = map(int, tile.groups()[2:])
        return HTTPStatus.OK, "image/jpeg", run.tile(tile[1], tile[2], level, row, column), True

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line."""


def _options(words: Sequence[str]) -> dict[str, str]:
    options, others = split_words(words, {"run": "", "port": "0", "open": "true"})
    if others:
        raise UserError(f"view does not know {others[0]!r}: give it run=DIR, and perhaps port=8000 or open=false")
    if not options["run"]:
        raise UserError("view needs a run directory: run=dreams/NAME")
    check_switches(options, ["open"])
    return options


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > 65535:
        raise UserError(f"port={text}: must be a number from 0 (any that is free) to 65535")
    return int(text)


def _open_browser(url: str) -> None:
    """Opens the browser where there is a screen; one in the terminal would be in the way."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
