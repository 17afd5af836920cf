"""Differences between the devices of a run's workers and those that it was begun with: they may round sums differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from render.farm.messages import WorkerFacts
from render.terminal.text import escaped

#: Versions that decide no bit of a canvas.
_IRRELEVANT = ("render", "python")
_SHOWN_CHARACTERS = 100


def device_change(recorded: Any, workers: Sequence[WorkerFacts]) -> str | None:
    """Return how the devices differ from the recorded ones, as a clause; None if they do not, or nothing is recorded.

    Args:
        recorded: The entry `workers` of a run's record, which may come from anybody.
        workers: What the workers report now.
    """
    before = [entry for entry in recorded if isinstance(entry, Mapping)] if isinstance(recorded, Sequence) else []
    if not before:
        return None
    was = _traits((entry.get("device"), entry.get("versions")) for entry in before)
    now = _traits((worker.device, worker.versions) for worker in workers)
    differences = [
        f"{name} {_text(was[name])} then, {_text(now.get(name, set()))} now"
        for name in sorted(was)
        if was[name] != now.get(name, set())
    ]
    return ", ".join(differences) or None


def mixed_devices(workers: Sequence[WorkerFacts]) -> str | None:
    """Return how the workers' devices differ from each other, as a clause; None if they are of one kind."""
    traits = _traits((worker.device, worker.versions) for worker in workers)
    differing = [f"{name} {_text(values)}" for name, values in sorted(traits.items()) if len(values) > 1]
    return ", ".join(differing) or None


def _traits(facts: Any) -> dict[str, set[str]]:
    """Return the values of each trait that decides bits, over all workers: of the device's model, and of each version."""
    traits: dict[str, set[str]] = {}
    for device, versions in facts:
        named = {"device": device} | (dict(versions) if isinstance(versions, Mapping) else {})
        for name, value in named.items():
            if name not in _IRRELEVANT and isinstance(value, str):
                traits.setdefault(name, set()).add(value)
    return traits


def _text(values: set[str]) -> str:
    return " and ".join(escaped(value[:_SHOWN_CHARACTERS]) or "none" for value in sorted(values)) or "unknown"
