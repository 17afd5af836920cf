"""The metadata service that a machine of AWS or Google Cloud finds, on this one's loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class MetadataServer(ThreadingHTTPServer):
    """Server with settable answers: `action` is AWS' instance-action, None for none; the others are Google Cloud's."""

    action: str | None = None
    preempted = "FALSE"
    maintenance = "NONE"
    #: Requests so far, in order.
    requests: list[str]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"


class _Handler(BaseHTTPRequestHandler):
    server: MetadataServer

    def do_PUT(self) -> None:
        good = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(*((200, "a token") if good else (404, "")))

    def do_GET(self) -> None:
        google = self.headers["Metadata-Flavor"] == "Google"
        match self.path:
            case "/latest/meta-data/spot/instance-action" if self.headers["X-aws-ec2-metadata-token"] != "a token":
                self._answer(401, "")
            case "/latest/meta-data/spot/instance-action" if self.server.action is not None:
                self._answer(200, self.server.action)
            case "/computeMetadata/v1/instance/preempted" if google:
                self._answer(200, self.server.preempted)
            case "/computeMetadata/v1/instance/maintenance-event" if google:
                self._answer(200, self.server.maintenance)
            case _:
                self._answer(404, "")

    def _answer(self, status: int, text: str) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""


@contextmanager
def metadata_service() -> Iterator[MetadataServer]:
    """Serve inside the context, in a thread of this process."""
    server = MetadataServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
