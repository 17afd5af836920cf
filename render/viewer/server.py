"""Server that shows a run in the browser. Only this machine can reach it."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

from render.config.formats import DREAM, SOURCE
from render.errors import DamagedCheckpoint, UserError
from render.terminal.text import encoded
from render.viewer.live_run import LiveRun, NoTile
from render.viewer.open_part import NoSuchPart, OpenPart, byte_range

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_MAX_IDLE_S = 60.0
_PICTURE = re.compile(r"/pictures/(\d{1,3})")
_TILE = re.compile(r"/(dream|source|proof|gamut)/([0-9a-f]{1,32}-[0-9a-f]{1,16})_files/(\d{1,2})/(\d{1,7})_(\d{1,7})\.jpg")
#: Content security policy: the page may load nothing from other servers.
_POLICY = "default-src 'self' 'unsafe-inline' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HTML, TEXT = "text/html; charset=utf-8", "text/plain; charset=utf-8"
JSON, _SCRIPT = "application/json", "text/javascript"
UNSTORED = {"Cache-Control": "no-store"}
#: Bytes that are read of a file at once.
_CHUNK = 1 << 20
NOT_FROM_HERE = b"this server is for the browser on its own machine\n"


class LoopbackServer(ThreadingHTTPServer):
    """HTTP server that only this machine can reach."""

    daemon_threads = True

    def __init__(self, port: int, handler: type[LoopbackHandler]) -> None:
        super().__init__((_HOST, port), handler)
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


class ViewServer(LoopbackServer):
    """HTTP server of one run."""

    def __init__(self, run: LiveRun, script: bytes | None, port: int) -> None:
        self.run = run
        self.script = script
        super().__init__(port, _Handler)


def serving(run: LiveRun, script: bytes | None, port: int = 0) -> ViewServer:
    """Return a server at `port` (0: a free one). Raise `UserError` if the port is taken."""
    try:
        return ViewServer(run, script, port)
    except OSError as error:
        raise port_refused(port, error) from None


def port_refused(port: int, error: OSError) -> UserError:
    """Return the error for a port that cannot be used."""
    reason = str(error.strerror).lower()
    return UserError(f"port={port} cannot be used ({reason}): choose another, or port=0 for any that is free")


class LoopbackHandler(BaseHTTPRequestHandler):
    """Request handler that answers only the browser on this machine."""

    server: LoopbackServer
    protocol_version = "HTTP/1.1"
    timeout = _MAX_IDLE_S
    # Send small answers at once.
    disable_nagle_algorithm = True

    def is_from_here(self) -> bool:
        """Return whether the request names this server as its host."""
        return self.headers.get("Host") in self.server.hosts

    def begin(self, status: HTTPStatus, content_type: str, size: int, headers: Mapping[str, str]) -> None:
        """Send the head of an answer of `size` bytes."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(size))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def send_part(self, part: OpenPart) -> None:
        """Send a file, or the range of it that the request asks for; for HEAD, without the content."""
        headers = {**UNSTORED, "Accept-Ranges": "bytes"}
        if part.download_name:
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(part.download_name, safe='')}"
        with part.file as file:
            try:
                asked = byte_range(self.headers.get("Range"), part.size)
            except ValueError:
                headers["Content-Range"] = f"bytes */{part.size}"
                return self.begin(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, part.content_type, 0, headers)
            start, stop = asked or (0, part.size)
            if asked is not None:
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{part.size}"
            status = HTTPStatus.OK if asked is None else HTTPStatus.PARTIAL_CONTENT
            self.begin(status, part.content_type, stop - start, headers)
            if self.command == "HEAD":
                return None
            file.seek(start)
            while start < stop:
                content = file.read(min(_CHUNK, stop - start))
                if not content:
                    # Cut off meanwhile: what was promised cannot be sent.
                    self.close_connection = True
                    return None
                self.wfile.write(content)
                start += len(content)
        return None

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing for a request."""


class _Handler(LoopbackHandler):
    """Request handler for a few fixed addresses. No address is ever turned into a file path."""

    server: ViewServer

    def do_GET(self) -> None:
        """Answer a request; for HEAD, without the content."""
        picture = _PICTURE.fullmatch(self.path.partition("?")[0])
        try:
            if picture is not None and self.is_from_here():
                return self.send_part(self.server.run.picture(int(picture[1])))
            status, content_type, content, is_final = self._answer()
        except (NoTile, NoSuchPart) as error:
            status, content_type, content, is_final = HTTPStatus.NOT_FOUND, TEXT, f"{error}\n".encode(), False
        except DamagedCheckpoint as error:
            # Most likely a newer checkpoint is overwriting it.
            status, content_type, content, is_final = HTTPStatus.SERVICE_UNAVAILABLE, TEXT, f"{error}\n".encode(), False
        # A tile's address names its checkpoint, so its content never changes.
        caching = "max-age=86400, immutable" if is_final else "no-store"
        self.begin(status, content_type, len(content), {"Cache-Control": caching})
        if self.command != "HEAD":
            self.wfile.write(content)
        return None

    do_HEAD = do_GET

    def _answer(self) -> tuple[HTTPStatus, str, bytes, bool]:
        """Return status, content type and content, and whether the content never changes."""
        run = self.server.run
        if not self.is_from_here():
            return HTTPStatus.FORBIDDEN, TEXT, NOT_FROM_HERE, False
        address = self.path.partition("?")[0]
        match address:
            case "/":
                return HTTPStatus.OK, HTML, encoded(run.page()), False
            case "/status.json":
                return HTTPStatus.OK, JSON, json.dumps(run.status()).encode(), False
            case "/openseadragon.min.js" if self.server.script is not None:
                return HTTPStatus.OK, _SCRIPT, self.server.script, True
        tile = _TILE.fullmatch(address)
        if tile is None:
            return HTTPStatus.NOT_FOUND, TEXT, b"there is nothing here\n", False
        level, column, row = map(int, tile.groups()[2:])
        # The next server at this port may have another profile to prove for.
        is_final = tile[1] in (DREAM, SOURCE)
        return HTTPStatus.OK, "image/jpeg", run.tile(tile[1], tile[2], level, row, column), is_final
