"""Server that shows a film in the browser: its file by ranges of bytes, so that it can be sought in, and its frames."""

from __future__ import annotations

import json
import re
from http import HTTPStatus

from render.errors import StorageError
from render.terminal.text import encoded
from render.viewer.live_film import LiveFilm
from render.viewer.open_part import NoSuchPart
from render.viewer.server import HTML, JSON, NOT_FROM_HERE, TEXT, UNSTORED, LoopbackHandler, LoopbackServer, port_refused

_PART = re.compile(r"/(frames|source)/(\d{1,9})\.(png|jpg)")


class FilmServer(LoopbackServer):
    """HTTP server of one film."""

    def __init__(self, film: LiveFilm, port: int) -> None:
        self.film = film
        super().__init__(port, _FilmHandler)


def serving_film(film: LiveFilm, port: int = 0) -> FilmServer:
    """Return a server at `port` (0: a free one). Raise `UserError` if the port is taken."""
    try:
        return FilmServer(film, port)
    except OSError as error:
        raise port_refused(port, error) from None


class _FilmHandler(LoopbackHandler):
    """Request handler for a few fixed addresses. Only numbers of frames are taken from an address."""

    server: FilmServer

    def do_GET(self) -> None:
        """Answer a request; for HEAD, without the content."""
        try:
            self._answer()
        except NoSuchPart as error:
            self._send(HTTPStatus.NOT_FOUND, TEXT, encoded(f"{error}\n"))
        except StorageError as error:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, encoded(f"{error}\n"))

    do_HEAD = do_GET

    def _answer(self) -> None:
        film = self.server.film
        address = self.path.partition("?")[0]
        if not self.is_from_here():
            return self._send(HTTPStatus.FORBIDDEN, TEXT, NOT_FROM_HERE)
        match address:
            case "/":
                return self._send(HTTPStatus.OK, HTML, encoded(film.page()))
            case "/status.json":
                return self._send(HTTPStatus.OK, JSON, json.dumps(film.status()).encode())
            case "/film":
                return self.send_part(film.video())
        match = _PART.fullmatch(address)
        if match is not None and (match[1], match[3]) == ("frames", "png"):
            return self.send_part(film.picture(int(match[2])))
        if match is not None and (match[1], match[3]) == ("source", "jpg"):
            return self._send(HTTPStatus.OK, "image/jpeg", film.source(int(match[2])))
        return self._send(HTTPStatus.NOT_FOUND, TEXT, b"there is nothing here\n")

    def _send(self, status: HTTPStatus, content_type: str, content: bytes) -> None:
        self.begin(status, content_type, len(content), UNSTORED)
        if self.command != "HEAD":
            self.wfile.write(content)
