"""A running cluster's dashboard over HTTP: its version, its nodes, and access to it."""

from __future__ import annotations

import http.client
import ipaddress
import json
import logging
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from render.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_MAX_ANSWER_S = 15.0


@dataclass(frozen=True)
class Dashboard:
    """The dashboard of a Ray cluster.

    `word` is the user's name for the cluster, `ray` the version of Ray that runs there; it is empty until the dashboard
    has answered.
    """

    word: str
    url: str
    token: str | None
    ray: str = ""

    def greeted(self) -> Dashboard:
        """Return the dashboard with its Ray version. Raise `UserError` if there is no access."""
        answer = self._get("/api/version")
        if not isinstance(answer, dict) or "ray_version" not in answer:
            raise UserError(f"cluster={self.word}: what answers at {self.url} is not the dashboard of a Ray cluster")
        return Dashboard(self.word, self.url, self.token, str(answer["ray_version"]))

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes that are alive, as Ray's state API describes them, the head node first."""
        answer = self._get("/api/v0/nodes?limit=10000")
        listed = answer["data"]["result"]["result"]
        alive = [node for node in listed if node["state"] == "ALIVE"]
        return sorted(alive, key=lambda node: not node["is_head_node"])

    def client(self) -> JobSubmissionClient:
        """Return Ray's client for jobs at this address, whatever the environment says."""
        for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
            # These variables would override the address.
            os.environ.pop(name, None)
        if _is_loopback(self.url):
            os.environ["NO_PROXY"] = ",".join(filter(None, (os.environ.get("NO_PROXY"), urlsplit(self.url).hostname)))
        from ray.job_submission import JobSubmissionClient

        # The import creates these loggers and makes them verbose.
        logging.getLogger("ray").setLevel(logging.ERROR)
        for name in (
            "ray.dashboard.modules.job.sdk",
            "ray.dashboard.modules.dashboard_sdk",
            "ray._private.runtime_env.packaging",
        ):
            logging.getLogger(name).setLevel(logging.ERROR)
        return JobSubmissionClient(self.url, headers={"Authorization": f"Bearer {self.token}"} if self.token else None)

    def _get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        handlers = [urllib.request.ProxyHandler({})] if _is_loopback(self.url) else []
        try:
            request = urllib.request.Request(self.url + path, headers=headers)
            with urllib.request.build_opener(*handlers).open(request, timeout=_MAX_ANSWER_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (401, 403):
                raise UserError(self._access_error()) from None
            raise UserError(
                f"cluster={self.word}: what answers at {self.url} is not the dashboard of a Ray cluster (HTTP {error.code})"
            ) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            reason_text = getattr(reason, "strerror", None) or " ".join(str(reason).split()) or type(reason).__name__
            raise UserError(
                f"cluster={self.word}: no Ray dashboard answers at {self.url} ({reason_text}): is the cluster up?"
            ) from None

    def _access_error(self) -> str:
        problem = (
            "does not take the token that this machine has" if self.token else "asks for a token, and this machine has none"
        )
        return (
            f"cluster={self.word} {problem}: put the one that `ray get-auth-token` prints on its head into "
            "~/.ray/auth_token, or name its file with RAY_AUTH_TOKEN_PATH"
        )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
