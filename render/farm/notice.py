"""Notices that a machine is about to go, in the formats of the clouds. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

#: Time from the first notice to the end of a Google Cloud machine, s: https://cloud.google.com/compute/docs/instances/spot.
_GCP_SECONDS = 30.0


@dataclass(frozen=True)
class Notice:
    """Workers whose machine is about to go: their numbers, the reason, and the seconds left, or None if unknown."""

    workers: tuple[int, ...]
    reason: str
    seconds: float | None = None

    def __str__(self) -> str:
        return self.reason if self.seconds is None else f"{self.reason}, in {max(0.0, self.seconds):.0f} s"


@dataclass(frozen=True)
class Warned:
    """Warning about one machine: why it goes, and when, in seconds since the epoch; None if unknown."""

    reason: str
    at: float | None = None

    def left(self, now: float) -> float | None:
        """Return the seconds until the machine goes, from `now` in seconds since the epoch."""
        return None if self.at is None else self.at - now


def read_aws_action(text: str) -> Warned | None:
    """Parse the text of `spot/instance-action`; return None if it is no notice.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
    """
    try:
        record = json.loads(text)
        action = record["action"]
    except (ValueError, TypeError, KeyError):
        return None
    if action not in ("terminate", "stop", "hibernate"):
        return None
    try:
        at = datetime.fromisoformat(str(record.get("time")))
    except ValueError:
        return Warned(f"AWS will {action} its spot instance")
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return Warned(f"AWS will {action} its spot instance", at.timestamp())


def read_gcp_preempted(text: str, now: float) -> Warned | None:
    """Parse the text of `instance/preempted`; `now` is in seconds since the epoch."""
    if text.strip().upper() != "TRUE":
        return None
    return Warned("Google Cloud takes its spot machine back", now + _GCP_SECONDS)


def read_gcp_maintenance(text: str) -> Warned | None:
    """Parse the text of `instance/maintenance-event`. A live migration does not stop the machine, so it is no notice.

    https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice
    """
    if text.strip().upper() != "TERMINATE_ON_HOST_MAINTENANCE":
        return None
    return Warned("Google Cloud will stop its machine for maintenance")
