"""Command `preflight file=PICTURE`: check a picture before it is printed, against an order if there is one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from render.config.formats import format_of
from render.errors import UserError
from render.job.run_record import missing_record_message, read_run, refuse_film
from render.preflight.inspection import Request, inspect
from render.preflight.order_files import read_order
from render.preflight.print_report import faults, report_data, report_lines
from render.preflight.seams import MIN_TILE_PX
from render.storage.user_paths import input_path, user_path
from render.terminal.lines import print_lines

_KEYS = ("file", "tile", "run", "spec", "json")
#: Beginning of the words that state limits of an order.
_LIMIT = "spec."
#: Formats of pictures that can be checked.
_FORMATS = ("png", "jpeg", "webp", "tiff", "bigtiff")


def preflight_command(words: Sequence[str]) -> int:
    """Print the report on the picture that the words name; return 1 if it is not as ordered."""
    request = parse(words)
    report = inspect(request)
    if request.as_json:
        print(json.dumps(report_data(report), indent=1))
    else:
        print_lines(*report_lines(report))
    return 1 if request.order is not None and faults(report) else 0


def parse(words: Sequence[str]) -> Request:
    """Return the request that the command's words make. Raise `UserError` for wrong words."""
    options, limits = {}, {}
    for word in words:
        key, equals, value = word.partition("=")
        if key.startswith(_LIMIT) and equals:
            limits[key.removeprefix(_LIMIT)] = value
            continue
        if key not in _KEYS:
            known = ", ".join(f"{key}=" for key in (*_KEYS, f"{_LIMIT}KEY"))
            raise UserError(f"preflight does not know {key!r}: it takes {known}")
        options[key] = value
    if options.get("json", "false") not in ("true", "false"):
        raise UserError(f"json={options['json']}: must be true or false")
    order = read_order(options.get("spec") or None, limits)
    record = None
    if options.get("run"):
        directory = user_path(options["run"], "run")
        record = _record(directory)
        if not options.get("file"):
            options["file"] = str(_run_picture(directory, record))
    if not options.get("file"):
        raise UserError("preflight needs a picture: file=PICTURE, or run=DIR for the picture of a run")
    path, is_json = input_path(options["file"], "file"), options.get("json") == "true"
    return Request(path, _tile(options.get("tile")), record, is_json, order)


def _run_picture(directory: Path, record: Mapping[str, Any]) -> Path:
    """Return the first picture of a run that can be checked. Raise `UserError` if there is none."""
    names = dict.fromkeys((record.get("picture", ""), *record.get("pictures", ())))
    pictures = [name for name in names if name and (directory / name).exists()]
    readable = [name for name in pictures if format_of(name) in _FORMATS and (directory / name).is_file()]
    if not pictures:
        raise UserError(f"run={directory} has no finished picture: go on with the run, or name one with file=")
    if not readable:
        raise UserError(
            f"run={directory} has only {', '.join(pictures)}, which preflight does not read: make export run={directory} "
            "output.format=tiff writes a picture that it reads"
        )
    return directory / readable[0]


def _record(directory: Path) -> Mapping[str, Any]:
    reading = read_run(directory)
    if not reading.record and reading.damage:
        raise UserError(missing_record_message(directory, reading))
    if not reading.record:
        raise UserError(f"run={directory} is no run directory: name one that holds a run.json")
    refuse_film(reading.record, f"run={directory}")
    return reading.record


def _tile(text: str | None) -> tuple[int, int] | None:
    """Parse 192, or 192x320 for 192 px wide and 320 px tall; return (rows, columns) px."""
    if not text:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UserError(f"tile={text}: must be a number of px, or WIDTHxHEIGHT")
    width, height = int(parts[0]), int(parts[-1])
    if min(width, height) < MIN_TILE_PX:
        raise UserError(f"tile={text}: the seam meter needs tiles of at least {MIN_TILE_PX} px")
    return height, width
