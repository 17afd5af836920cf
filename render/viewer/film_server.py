"""Server that shows a film in the browser: its file by ranges of bytes, so that it can be sought in, and its frames."""

from __future__ import annotations

import json
import re
from http import HTTPStatus

from render.errors import StorageError
from render.terminal.text import encoded
from render.viewer.live_film import LiveFilm, NoSuchPart, OpenPart
from render.viewer.server import HTML, JSON, NOT_FROM_HERE, TEXT, LoopbackHandler, LoopbackServer, port_refused

_PART = re.compile(r"/(frames|source)/(\d{1,9})\.(png|jpg)")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CHUNK = 1 << 20
_UNSTORED = {"Cache-Control": "no-store"}


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


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the bytes, [start, stop), that a `Range` header asks for; None for the whole, as for headers of other forms.

    Raises:
        ValueError: The range has no byte of a file of `size` bytes.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if match[2] and int(match[2]) < start:
            return None
    if start >= stop:
        raise ValueError(f"no byte of {size} is in {header}")
    return start, stop


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
                return self._send_part(film.video())
        match = _PART.fullmatch(address)
        if match is not None and (match[1], match[3]) == ("frames", "png"):
            return self._send_part(film.picture(int(match[2])))
        if match is not None and (match[1], match[3]) == ("source", "jpg"):
            return self._send(HTTPStatus.OK, "image/jpeg", film.source(int(match[2])))
        return self._send(HTTPStatus.NOT_FOUND, TEXT, b"there is nothing here\n")

    def _send(self, status: HTTPStatus, content_type: str, content: bytes) -> None:
        self.begin(status, content_type, len(content), _UNSTORED)
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_part(self, part: OpenPart) -> None:
        """Send a file, or the range of it that the request asks for."""
        headers = {**_UNSTORED, "Accept-Ranges": "bytes"}
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
