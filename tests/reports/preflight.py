"""Measures of preflight on a folder of good and bad files, which its thresholds are from.

    python -m tests.reports.preflight [DIRECTORY]

The files are written into the directory, or into a temporary one; a line for each says what was measured and found.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from render.commands.preflight import parse
from render.preflight.facts import Report
from render.preflight.faults import lost_shares
from render.preflight.inspection import inspect
from render.preflight.print_report import faults
from tests.preflight.pictures import BAD, GOOD, Sample, write

_COLUMNS = ("factor", "blocks", "banded", "levels", "quality", "lost 0", "lost 255", "ink")


def line(name: str, report: Report) -> str:
    """Return the measures of a file on one line."""
    detail, tones, ink = report.detail, report.tones, report.ink
    assert tones is not None
    low, high = (max(shares) for shares in zip(*((low, high) for _, low, high in lost_shares(report)), strict=True))
    values = (
        "-" if detail is None else f"{detail.factor:.2f}",
        "-" if detail is None else f"{detail.blocking.strength:.2f}",
        f"{100 * tones.banded:.2f} %",
        str(tones.levels),
        str(report.header.jpeg_quality or "-"),
        f"{100 * low:.1f} %",
        f"{100 * high:.1f} %",
        "-" if ink is None else f"{ink.maximum:.0f} %",
    )
    return row(name, values, " ".join(sorted({fault.kind for fault in faults(report)})))


def row(name: str, values: Sequence[str], kinds: str) -> str:
    """Return a line of the table."""
    return f"{name:32}{''.join(f'{value:>9}' for value in values)}  {kinds}".rstrip()


def measure(samples: dict[str, Sample], directory: Path) -> int:
    """Write and measure samples, print a line for each, and return how many were misjudged."""
    wrong = 0
    print(row("file", _COLUMNS, "faults"))
    for name, path in write(samples, directory).items():
        report = inspect(parse([f"file={path}", *samples[name].words]))
        is_wrong = {fault.kind for fault in faults(report)} != samples[name].faults
        wrong += is_wrong
        print(line(name, report) + ("   <- MISJUDGED" if is_wrong else ""), flush=True)
    print(f"{len(samples)} files, {wrong} misjudged\n")
    return wrong


def main() -> int:
    """Measure all; return 1 if any was misjudged."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        return int(any([measure(GOOD, directory / "good"), measure(BAD, directory / "bad")]))


if __name__ == "__main__":
    sys.exit(main())
