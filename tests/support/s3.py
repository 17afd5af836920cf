"""A server that speaks S3, in a process of its own, for tests."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Server:
    """A running server, and the environment in which programs find it."""

    port: int
    process: subprocess.Popen[bytes]
    address: str = "127.0.0.1"

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "of-no-value",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def make_bucket(self, name: str) -> str:
        """Make a bucket and return its URL."""
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()
        return f"s3://{name}"


@contextmanager
def serving(log: Path, address: str = "127.0.0.1") -> Iterator[Server]:
    """Start the server at an address of this machine, log its output, and set this process' environment for it."""
    with socket.create_server((address, 0)) as reserved:
        port = reserved.getsockname()[1]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", address, "-p", str(port)], stdout=file, stderr=file
        )
    server = Server(port, process, address)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{server.endpoint}/moto-api/", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(log.read_text(errors="replace")) from None
                time.sleep(0.1)
        with pytest.MonkeyPatch.context() as patch:
            # Only these are restored: Ray keeps notes in the environment, too, such as that it requires a token.
            for name, value in server.environment.items():
                patch.setenv(name, value)
            yield server
    finally:
        process.terminate()
        process.wait(30)
