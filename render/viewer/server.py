"""Command `view run=DIR`: shows a run in the browser, from a small server that only this machine can reach."""

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
#: Content security policy: the page may load nothing from other servers.
_POLICY = "default-src 'self' 'unsafe-inline' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HTML, _TEXT = "text/html; charset=utf-8", "text/plain; charset=utf-8"
_JSON, _SCRIPT = "application/json", "text/javascript"


def view(words: Sequence[str], say: Callable[[str], None] = print) -> None:
    """Serve a run until interrupted.

    Args:
        words: `run=DIR`, and perhaps `port=NUMBER` (0, the default, takes a free port) and `open=false` (do not open the
            browser).
        say: prints a line for the user.

    Raises:
        UserError: if the words are wrong, there is no such run, or the port is taken.
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
    """HTTP server of one run, on loopback."""

    daemon_threads = True

    def __init__(self, run: LiveRun, script: bytes | None, port: int) -> None:
        self.run = run
        self.script = script
        super().__init__((_HOST, port), _Handler)
        # Allowed Host headers: a page from another site could reach this server under a host name of its own.
        self.hosts = {f"{host}:{self.server_port}" for host in (_HOST, "localhost")}

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log an error, unless the browser only closed the connection."""
        if not isinstance(sys.exception(), OSError):
            log.exception("while answering the browser")


def serving(run: LiveRun, script: bytes | None, port: int = 0) -> ViewServer:
    """Return a server bound to `port` of this machine (0: any free port). Raise `UserError` if the port is taken."""
    try:
        return ViewServer(run, script, port)
    except OSError as error:
        reason = str(error.strerror).lower()
        raise UserError(f"port={port} cannot be used ({reason}): choose another, or port=0 for any that is free") from None


class _Handler(BaseHTTPRequestHandler):
    """Request handler for a few fixed addresses. No address is ever turned into a file path."""

    server: ViewServer
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    # Send small answers at once.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        try:
            status, kind, content, keep = self._answer()
        except NoTile as error:
            status, kind, content, keep = HTTPStatus.NOT_FOUND, _TEXT, f"{error}\n".encode(), False
        except DamagedCheckpoint as error:
            # Most likely a newer checkpoint is overwriting it.
            status, kind, content, keep = HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"{error}\n".encode(), False
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        # A tile's address names its checkpoint, so its content never changes.
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
        """Print nothing for a request."""


def _options(words: Sequence[str]) -> dict[str, str]:
    options, unknown_words = split_words(words, {"run": "", "port": "0", "open": "true"})
    if unknown_words:
        raise UserError(f"view does not know {unknown_words[0]!r}: give it run=DIR, and perhaps port=8000 or open=false")
    if not options["run"]:
        raise UserError("view needs a run directory: run=dreams/NAME")
    check_switches(options, ["open"])
    return options


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > 65535:
        raise UserError(f"port={text}: must be a number from 0 (any that is free) to 65535")
    return int(text)


def _open_browser(url: str) -> None:
    """Open the browser if there is a screen; without one, a text browser would take over the terminal."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
