"""Metadata services of AWS and Google Cloud, which tell a machine if it is about to go."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from typing import Protocol

from render.farm.notice import Warned, read_aws_action, read_gcp_maintenance, read_gcp_preempted

#: Timeout of a request, s. Both services are one network hop away, so they answer quickly if they exist.
_TIMEOUT_S = 2.0
#: Default addresses; the environment variables of the clouds' own tools override them.
_AWS_ENDPOINT, _GCP_HOST = "http://169.254.169.254", "metadata.google.internal"
#: Life of a token, s: the longest that AWS allows.
_TOKEN_S = 21600
_MAX_ANSWER_BYTES = 65536


class MetadataService(Protocol):
    """Interface of a cloud's metadata service."""

    def read_warning(self) -> Warned | None:
        """Return the warning that this machine is about to go, or None.

        Raises:
            OSError: The service does not answer.
        """


class Aws:
    """Version 2 of AWS' service, whose requests need a token."""

    def __init__(self, endpoint: str | None = None) -> None:
        """Fetch a first token. Raise OSError if there is no such service."""
        self._endpoint = (endpoint or os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _AWS_ENDPOINT).rstrip("/")
        self._token, self._renew_at = "", 0.0
        self._renew()

    def read_warning(self) -> Warned | None:
        """See `MetadataService`."""
        if time.monotonic() > self._renew_at:
            self._renew()
        try:
            text = _request(
                f"{self._endpoint}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": self._token}
            )
        except urllib.error.HTTPError as error:
            if error.code == 401:
                self._renew_at = 0.0
            # Not found means that there is no notice.
            return None
        return read_aws_action(text)

    def _renew(self) -> None:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_S)}
        self._token = _request(f"{self._endpoint}/latest/api/token", headers, "PUT")
        self._renew_at = time.monotonic() + _TOKEN_S / 2


class Gcp:
    """Google Cloud's service."""

    def __init__(self, host: str | None = None) -> None:
        """Read a first value. Raise OSError if there is no such service."""
        self._base = f"http://{host or os.environ.get('GCE_METADATA_HOST') or _GCP_HOST}/computeMetadata/v1/instance"
        self._read("preempted")

    def read_warning(self) -> Warned | None:
        """See `MetadataService`."""
        return read_gcp_preempted(self._read("preempted"), time.time()) or read_gcp_maintenance(
            self._read("maintenance-event")
        )

    def _read(self, name: str) -> str:
        return _request(f"{self._base}/{name}", {"Metadata-Flavor": "Google"})


def find_service() -> MetadataService | None:
    """Return the service of the cloud that this machine is in, or None if there is none."""
    for kind in (Gcp, Aws):
        try:
            return kind()
        except (OSError, ValueError):
            continue
    return None


def _request(url: str, headers: dict[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, headers=headers, method=method)
    # No proxy: it would return the answer for another machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_TIMEOUT_S) as answer:
        return str(answer.read(_MAX_ANSWER_BYTES).decode("utf-8", "replace"))
