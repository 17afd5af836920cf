"""What a benchmark found, as a table for people and as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Table:
    """One benchmark's figures. `rows` are by column; `goals` are claims about them, each with whether it holds."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[dict[str, str | float]]
    goals: dict[str, bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Aligned for a terminal: numbers to three significant digits and to the right, words to the left."""
        cells = [[_cell(row.get(column, "")) for column in self.columns] for row in self.rows]
        widths = [max(len(column), *(len(line[place]) for line in cells), 0) for place, column in enumerate(self.columns)]
        numeric = [any(isinstance(row.get(column), int | float) for row in self.rows) for column in self.columns]

        def line(words: Sequence[str]) -> str:
            aligned = (
                word.rjust(width) if right else word.ljust(width)
                for word, width, right in zip(words, widths, numeric, strict=True)
            )
            return "  ".join(aligned).rstrip()

        lines = [self.title, line(self.columns), *map(line, cells)]
        lines += [f"  {'reached' if holds else 'MISSED '}  {goal}" for goal, holds in self.goals.items()]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each contender's call returned in each round, all of them taking turns, so that what slows the machine for a
    while slows them alike. Every other round goes backwards, and one call of each comes before, which does not count.
    """
    results: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for number in range(rounds):
        for name in reversed(contenders) if number % 2 else contenders:
            results[name].append(contenders[name]())
    return results


def ratio(results: Mapping[str, Sequence[float]], above: str, below: str) -> float:
    """Return the median over rounds of the ratio of two contenders' figures in the same round."""
    return median(a / b for a, b in zip(results[above], results[below], strict=True))


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
