"""The axes of a sweep: keys that have several values. Hydra's multirun grammar, file names and lists become axes here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """One value of an axis: `label` is what people read, `words` are the `key=value` that set it, in Hydra's grammar."""

    label: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Axis:
    """A key that has several values: a dotted key, a config group, or `point` for a list of points."""

    key: str
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        """What the axis is called where there is little room: `terms` of `objective.terms`."""
        return self.key.rpartition(".")[2]
