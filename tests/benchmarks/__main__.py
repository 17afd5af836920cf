"""Runs benchmarks and says what they found: `make bench`, or `python -m tests.benchmarks [NAME ...] [--quick]`.

Without names all of them run, in an order in which nothing competes with anything. `--quick` takes small sizes, to see that
all works; its figures mean nothing. `--layers`, `--sides` and `--rounds` choose a part of `job`.
The exit code says nothing of goals: a machine may be slow or busy.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

from render.__main__ import make_overrides
from tests.benchmarks.job_layers import LAYERS, MIN_SIDE

#: Each a module here with `measure(quick: bool) -> Table`.
NAMES = (
    "kernels",
    "layers",
    "compiling",
    "aot",
    "memory",
    "tiles",
    "phases",
    "overhead",
    "scaling",
    "conductor",
    "margins",
    "linear",
    "starting",
    "films",
    "job",
    "colour",
    "forms",
)
#: Words that choose a part of `job`.
CHOICES = ("layers", "sides", "rounds")


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that all works")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="file for the figures (bench.json)")
    parser.add_argument("--layers", type=_names, help=f"layers of job, with commas between: of {', '.join(LAYERS)}")
    parser.add_argument("--sides", type=_numbers, help="widths of job's canvas, px, with commas between")
    parser.add_argument("--rounds", type=int, choices=range(1, 100), metavar="1..99", help="rounds of job")
    given = parser.parse_args(words)
    unknown = [name for name in given.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}: {', '.join(NAMES)}")
    choice = {name: value for name in CHOICES if (value := getattr(given, name)) is not None}
    if choice and given.names != ["job"]:
        parser.error(f"only job has a choice of {', '.join(choice)}: names=job")
    if choice and given.quick:
        parser.error("quick=true chooses itself: leave out " + ", ".join(choice))
    machine = {"python": platform.python_version(), "processor": platform.machine(), "cores": os.cpu_count()}
    tables = []
    for name in given.names or NAMES:
        print(f"\n{name} ...", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        table = importlib.import_module(f"tests.benchmarks.{name}").measure(given.quick, **choice)
        tables.append(table.plain() | {"seconds": round(time.perf_counter() - begun, 1)})
        print(f"\n{table.text()}", flush=True)
        # After each: what has been measured is not lost where a later one fails.
        given.json.write_text(json.dumps({"machine": machine, "quick": given.quick, "tables": tables}, indent=1))
    print(f"\n{given.json}")
    return 0


def words_of_make(escaped: str) -> list[str]:
    """Return the arguments that `make bench names="kernels tiles" quick=true` means."""
    settings = dict(word.partition("=")[::2] for word in make_overrides(escaped))
    chosen = [f"--{name}={settings[name]}" for name in CHOICES if name in settings]
    return settings.get("names", "").split() + ["--quick"] * (settings.get("quick") == "true") + chosen


def _names(text: str) -> list[str]:
    """Return the names of layers in a word."""
    names = text.split(",")
    for name in names:
        if name not in LAYERS:
            raise argparse.ArgumentTypeError(f"there is no layer {name!r} here: {', '.join(LAYERS)}")
    return names


def _numbers(text: str) -> list[int]:
    """Return the widths in a word."""
    widths = [int(number) for number in text.split(",") if number.isdecimal()]
    if not widths or str(widths) != f"[{text.replace(',', ', ')}]" or min(widths) < MIN_SIDE:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of widths, px, from {MIN_SIDE} on, such as 512,1024")
    return widths


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] + words_of_make(os.environ.pop("RENDER_OVERRIDES", ""))))
