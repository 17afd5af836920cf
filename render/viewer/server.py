"""Server that shows a run in the browser. Only this machine can reach it."""

from __future__ import annotations

import json
import logging
import re
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from render.errors import DamagedCheckpoint, UserError
from render.terminal.text import encoded
from render.viewer.live_run import LiveRun, NoTile

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_MAX_IDLE_S = 60.0
_TILE = re.compile(r"/(dream|source)/([0-9a-f]{1,32}-[0-9a-f]{1,16})_files/(\d{1,2})/(\d{1,7})_(\d{1,7})\.jpg")
#: Content security policy: the page may load nothing from other servers.
_POLICY = "default-src 'self' 'unsafe-inline' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HTML, _TEXT = "text/html; charset=utf-8", "text/plain; charset=utf-8"
_JSON, _SCRIPT = "application/json", "text/javascript"


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
        """Address of the page."""
        return f"http://{_HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log an error, unless the browser only closed the connection."""
        if not isinstance(sys.exception(), OSError):
            log.exception("while answering the browser")


def serving(run: LiveRun, script: bytes | None, port: int = 0) -> ViewServer:
    """Return a server at `port` (0: a free one). Raise `UserError` if the port is taken."""
    try:
        return ViewServer(run, script, port)
    except OSError as error:
        reason = str(error.strerror).lower()
        raise UserError(f"port={port} cannot be used ({reason}): choose another, or port=0 for any that is free") from None


class _Handler(BaseHTTPRequestHandler):
    """Request handler for a few fixed addresses. No address is ever turned into a file path."""

    server: ViewServer
    protocol_version = "HTTP/1.1"
    timeout = _MAX_IDLE_S
    # Send small answers at once.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a request; for HEAD, without the content."""
        try:
            status, content_type, content, is_final = self._answer()
        except NoTile as error:
            status, content_type, content, is_final = HTTPStatus.NOT_FOUND, _TEXT, f"{error}\n".encode(), False
        except DamagedCheckpoint as error:
            # Most likely a newer checkpoint is overwriting it.
            status, content_type, content, is_final = HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"{error}\n".encode(), False
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        # A tile's address names its checkpoint, so its content never changes.
        self.send_header("Cache-Control", "max-age=86400, immutable" if is_final else "no-store")
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_GET

    def _answer(self) -> tuple[HTTPStatus, str, bytes, bool]:
        """Return status, content type and content, and whether the content never changes."""
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
