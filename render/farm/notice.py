"""Notices that a machine is about to go, and how the clouds word them. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

#: How long a machine of Google's has from the first word to its end, s: https://cloud.google.com/compute/docs/instances/spot.
_GCP_SECONDS = 30.0


@dataclass(frozen=True)
class Notice:
    """Workers whose machine is about to go: their numbers, why, and how many seconds are left, None where nobody says."""

    workers: tuple[int, ...]
    reason: str
    seconds: float | None = None

    def __str__(self) -> str:
        return self.reason if self.seconds is None else f"{self.reason}, in {max(0.0, self.seconds):.0f} s"


@dataclass(frozen=True)
class Warned:
    """What is said of one machine: why it goes, and when, in seconds since the epoch; None where nobody says."""

    reason: str
    at: float | None = None

    def left(self, now: float) -> float | None:
        """Seconds from `now`, since the epoch, until the machine goes."""
        return None if self.at is None else self.at - now


def read_aws_action(text: str) -> Warned | None:
    """What `spot/instance-action` says: None for what is no notice.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
    """
    try:
        said = json.loads(text)
        action = said["action"]
    except (ValueError, TypeError, KeyError):
        return None
    if action not in ("terminate", "stop", "hibernate"):
        return None
    try:
        at = datetime.fromisoformat(str(said.get("time")))
    except ValueError:
        return Warned(f"AWS will {action} its spot instance")
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return Warned(f"AWS will {action} its spot instance", at.timestamp())


def read_gcp_preempted(text: str, now: float) -> Warned | None:
    """What `instance/preempted` says; `now` is in seconds since the epoch."""
    if text.strip().upper() != "TRUE":
        return None
    return Warned("Google Cloud takes its spot machine back", now + _GCP_SECONDS)


def read_gcp_maintenance(text: str) -> Warned | None:
    """What `instance/maintenance-event` says: a machine that is moved while it runs goes nowhere, as far as it can tell.

    https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice
    """
    if text.strip().upper() != "TERMINATE_ON_HOST_MAINTENANCE":
        return None
    return Warned("Google Cloud will stop its machine for maintenance")
