"""Figures of one machine's accelerator in at most eight minutes, the most telling first.

    python -m tests.benchmarks.gpu [--quick] [--out FILE] [--minutes M] [NAME ...]

From a checkout, without network and without Ray, with random weights. Every figure is a line of JSON, written as soon as
it is there, so that a run that is cut off loses nothing. An item that fails, hangs or crashes becomes one line with
`error`, and the next begins in a new process; the exit code is then 1. `--quick` forces the accelerator's programs onto
the CPU, in tiny sizes, to see that all works; its figures mean nothing. NAMEs choose items; `--list` shows them.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from render.system.surroundings import determinism_flags

Line = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]

#: Minutes for all items; seconds that a process may take to start JAX, and that must be left where an item begins.
_MINUTES, _START_S, _LEAST_S = 8.0, 60.0, 1.0
_TOLD_CHARACTERS = 300


@dataclass(frozen=True)
class Item:
    """Something to measure.

    Attributes:
        name: Its name; what follows a colon is its variant.
        seconds: The longest that it may take.
        flags: XLA's flags, those of a render by default.
        apart: True for a process of its own.
    """

    name: str
    seconds: float
    flags: str = field(default_factory=lambda: determinism_flags(True))
    apart: bool = False


def _items() -> list[Item]:
    """Return all items, by the value of their figures."""
    tuned, excluding = "", determinism_flags("auto")
    precisions = ("bfloat16", "tensorfloat32", "float32")
    return [
        Item("device", 30),
        Item("products", 40),
        Item("gradient", 90),
        *(Item(f"kernel:mixed5:{precision}", 90) for precision in precisions),
        *(Item(f"kernel:inception_4c:{precision}", 60) for precision in precisions),
        Item("checksum:first", 60, apart=True),
        Item("checksum:second", 60, apart=True),
        Item("steps", 120, apart=True),
        Item("trace", 60, apart=True),
        Item("laplacian", 90),
        Item("batches", 90),
        Item("variant:autotuned", 90, excluding, apart=True),
        Item("variant:unrestricted", 90, tuned, apart=True),
        Item("variant:host forms", 90, apart=True),
        Item("checksum:autotuned first", 60, tuned, apart=True),
        Item("checksum:autotuned second", 60, tuned, apart=True),
    ]


class _Child:
    """A process that measures items one after the other, and its lines."""

    def __init__(self, items: Sequence[Item], *, quick: bool) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for name in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR"):
            environment.pop(name, None)
        if items[0].flags:
            environment["XLA_FLAGS"] = items[0].flags
        if quick:
            environment |= {"JAX_PLATFORMS": "cpu"}
        words = [sys.executable, "-m", "tests.benchmarks.gpu_items", *["--quick"] * quick, *(item.name for item in items)]
        self._messages: list[str] = []
        self._process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        #: Lines of JSON; None at the end.
        self.lines: queue.Queue[str | None] = queue.Queue()
        streams = self._process.stdout, self._process.stderr
        assert streams[0] is not None
        assert streams[1] is not None
        self._threads = [
            threading.Thread(target=self._read_lines, args=(streams[0],), daemon=True),
            threading.Thread(target=lambda: self._messages.extend(streams[1]), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_lines(self, stream: TextIO) -> None:
        for line in stream:
            self.lines.put(line)
        self.lines.put(None)

    def end(self) -> str:
        """End the process, if it has not ended, and return why: its exit code, and the last that it said."""
        code = self._process.poll()
        if code is None:
            self._process.kill()
        code = self._process.wait()
        for thread in self._threads:
            thread.join(timeout=5)
        last = next((line.strip() for line in reversed(self._messages) if line.strip()), "")
        return f"exit code {code}: {last[:_TOLD_CHARACTERS]}"


def measured(items: Sequence[Item], seconds: float, *, quick: bool) -> Iterator[Line]:
    """Measure items, each in its time, and yield their lines. The last of each item has `seconds` or `error`.

    Args:
        items: What to measure, in this order.
        seconds: Time for all; what would begin later is left out, with a line that says so.
        quick: Tiny sizes on the CPU.
    """
    deadline = time.monotonic() + seconds
    waiting = list(items)
    while waiting:
        group = _together(waiting)
        child = _Child(group, quick=quick)
        try:
            # Where one has failed, the others of its process go on in another.
            done = yield from _of_child(child, group, deadline)
        finally:
            child.end()
        del waiting[:done]
        if waiting and deadline - time.monotonic() < _LEAST_S:
            yield from ({"item": item.name, "error": "not begun: the time is over"} for item in waiting)
            return


def _of_child(child: _Child, items: Sequence[Item], deadline: float) -> Iterator[Line]:
    """Yield a process' lines; return the number of items that are done, failed ones included."""
    grace = _START_S
    for done, item in enumerate(items):
        if deadline - time.monotonic() < _LEAST_S:
            return done
        limit = min(time.monotonic() + item.seconds + grace, deadline)
        grace = 0.0
        while True:
            try:
                text = child.lines.get(timeout=max(0.0, limit - time.monotonic()))
            except queue.Empty:
                reason = "not done: the time is over" if limit == deadline else f"took longer than {item.seconds:g} s"
                yield {"item": item.name, "error": reason}
                return done + 1
            if text is None:
                yield {"item": item.name, "error": f"its process ended with {child.end()}"}
                return done + 1
            line = json.loads(text)
            yield line
            if "seconds" in line or "error" in line:
                break
    return len(items)


def _together(items: Sequence[Item]) -> list[Item]:
    """Return the items from the first on that share a process."""
    group = [items[0]]
    for item in items[1:]:
        if item.apart or item.flags != group[0].flags:
            break
        group.append(item)
    return group


def completed(lines: Iterator[Line]) -> Iterator[Line]:
    """Add to lines what follows from several of them: shares of the product rates, agreement of checksums."""
    rates: dict[str, float] = {}
    checksums: dict[str, str] = {}
    for line in lines:
        if line["item"] == "products" and "tflops" in line:
            rates[line["precision"]] = line["tflops"]
        elif "tflops" in line and rates.get(line.get("precision", "")):
            line |= {"share_of_product": line["tflops"] / rates[line["precision"]]}
        yield line
        if "sha256" in line:
            kind, _, order = line["item"].removeprefix("checksum:").rpartition(" ")
            checksums[f"{kind}:{order}"] = line["sha256"]
            if order == "second" and f"{kind}:first" in checksums:
                agree = checksums[f"{kind}:first"] == line["sha256"]
                # Only the default flags promise it.
                failure = {"error": "two processes computed different bytes"} if not (agree or kind) else {}
                yield {"item": "checksums", "flags": kind or "deterministic", "agree": agree, **failure}


def main(words: list[str]) -> int:
    """Measure and write lines; return 1 if anything failed or was left out."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="items, or what their names begin with; all by default")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append the lines to this file, too")
    parser.add_argument("--minutes", type=float, default=_MINUTES, help=f"time for all ({_MINUTES:g})")
    parser.add_argument("--list", action="store_true", help="print the names of the items and end")
    given = parser.parse_args(words)
    items = [item for item in _items() if not given.names or item.name.startswith(tuple(given.names))]
    if not items:
        parser.error(f"there is no item {given.names[0]!r}: --list shows them")
    if given.list:
        print("\n".join(item.name for item in items))
        return 0
    failed = False
    for line in completed(measured(items, 60 * given.minutes, quick=given.quick)):
        failed = failed or "error" in line
        text = json.dumps(line)
        print(text, flush=True)
        if given.out is not None:
            with given.out.open("a") as file:
                file.write(f"{text}\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
