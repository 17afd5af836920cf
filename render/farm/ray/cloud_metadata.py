"""Metadata services of AWS and Google Cloud, which tell a machine if it is about to go."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from typing import Protocol

from render.farm.notice import Warned, read_aws_action, read_gcp_maintenance, read_gcp_preempted

#: Timeout of a request, s. Both services are one network hop away, so they answer quickly if they exist.
_PATIENCE = 2.0
#: Default addresses; the environment variables of the clouds' own tools override them.
_AWS, _GCP = "http://169.254.169.254", "metadata.google.internal"
_TOKEN_SECONDS = 21600
_LONGEST_ANSWER = 65536


class Service(Protocol):
    """Interface of a cloud's metadata service."""

    def warned(self) -> Warned | None:
        """Return the warning that this machine is about to go, or None. Raise OSError if the service does not answer."""


class Aws:
    """Version 2 of AWS' service, whose requests need a token."""

    def __init__(self, endpoint: str | None = None) -> None:
        """Fetch a first token. Raise OSError if there is no such service."""
        self._endpoint = (endpoint or os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _AWS).rstrip("/")
        self._token, self._until = "", 0.0
        self._renew()

    def warned(self) -> Warned | None:
        if time.monotonic() > self._until:
            self._renew()
        try:
            text = _ask(
                f"{self._endpoint}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": self._token}
            )
        except urllib.error.HTTPError as error:
            if error.code == 401:
                self._until = 0.0
            # Not found means that there is no notice.
            return None
        return read_aws_action(text)

    def _renew(self) -> None:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
        self._token = _ask(f"{self._endpoint}/latest/api/token", headers, "PUT")
        self._until = time.monotonic() + _TOKEN_SECONDS / 2


class Gcp:
    """Google Cloud's service."""

    def __init__(self, host: str | None = None) -> None:
        """Read a first value. Raise OSError if there is no such service."""
        self._base = f"http://{host or os.environ.get('GCE_METADATA_HOST') or _GCP}/computeMetadata/v1/instance"
        self._read("preempted")

    def warned(self) -> Warned | None:
        return read_gcp_preempted(self._read("preempted"), time.time()) or read_gcp_maintenance(
            self._read("maintenance-event")
        )

    def _read(self, name: str) -> str:
        return _ask(f"{self._base}/{name}", {"Metadata-Flavor": "Google"})


def find_service() -> Service | None:
    """Return the service of the cloud that this machine is in, or None if there is none."""
    for kind in (Gcp, Aws):
        try:
            return kind()
        except (OSError, ValueError):
            continue
    return None


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, headers=headers, method=method)
    # No proxy: it would return the answer for another machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_PATIENCE) as answer:
        return str(answer.read(_LONGEST_ANSWER).decode("utf-8", "replace"))
