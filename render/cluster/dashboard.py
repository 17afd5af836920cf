"""What a running cluster's dashboard says over HTTP: versions, nodes, and whether it lets us in."""

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

_PATIENCE_S = 15.0


@dataclass(frozen=True)
class Dashboard:
    """A dashboard that answered. `word` is what the user calls its cluster, `ray` the version of Ray that runs there."""

    word: str
    url: str
    token: str | None
    ray: str = ""

    def greeted(self) -> Dashboard:
        """The same, with the version that it answers with. Raises `UserError` where no dashboard answers, or refuses us."""
        answer = self._get("/api/version")
        if not isinstance(answer, dict) or "ray_version" not in answer:
            raise UserError(f"cluster={self.word}: what answers at {self.url} is not the dashboard of a Ray cluster")
        return Dashboard(self.word, self.url, self.token, str(answer["ray_version"]))

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are alive, as Ray's state API tells of them, the head first."""
        answer = self._get("/api/v0/nodes?limit=10000")
        listed = answer["data"]["result"]["result"]
        alive = [node for node in listed if node["state"] == "ALIVE"]
        return sorted(alive, key=lambda node: not node["is_head_node"])

    def client(self) -> JobSubmissionClient:
        """Ray's client for jobs; quiet, and of this dashboard whatever the environment says."""
        for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
            # They would override the address.
            os.environ.pop(name, None)
        if _is_loopback(self.url):
            os.environ["NO_PROXY"] = ",".join(filter(None, (os.environ.get("NO_PROXY"), urlsplit(self.url).hostname)))
        from ray.job_submission import JobSubmissionClient

        # The loggers are made, and set to tell all, by that import.
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
            with urllib.request.build_opener(*handlers).open(request, timeout=_PATIENCE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (401, 403):
                raise UserError(self._locked()) from None
            raise UserError(
                f"cluster={self.word}: what answers at {self.url} is not the dashboard of a Ray cluster (HTTP {error.code})"
            ) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            reason_text = getattr(reason, "strerror", None) or " ".join(str(reason).split()) or type(reason).__name__
            raise UserError(
                f"cluster={self.word}: no Ray dashboard answers at {self.url} ({reason_text}): is the cluster up?"
            ) from None

    def _locked(self) -> str:
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
