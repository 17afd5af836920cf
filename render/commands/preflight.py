"""Command `preflight file=PICTURE [tile=PX] [run=DIR] [json=true]`: prints what a print shop asks of a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from render.errors import UserError
from render.job.run_record import missing_record_message, read_run
from render.preflight.preflight import Request, inspect
from render.preflight.print_report import lines, plain
from render.preflight.seams import LEAST_TILE
from render.storage.user_paths import input_path, user_path
from render.terminal.lines import print_lines

_KEYS = ("file", "tile", "run", "json")


def preflight_command(words: Sequence[str]) -> None:
    """Print the report on the file that `key=value` words name. Raise `UserError` if there can be none."""
    request = parse(words)
    report = inspect(request)
    if request.as_json:
        print(json.dumps(plain(report), indent=1))
    else:
        print_lines(*lines(report))


def parse(words: Sequence[str]) -> Request:
    """Return the request that the words on the command line make. Raise `UserError` for wrong words."""
    options = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in _KEYS:
            raise UserError(f"preflight does not know {key!r}: it takes {', '.join(f'{key}=' for key in _KEYS)}")
        options[key] = value
    if options.get("json", "false") not in ("true", "false"):
        raise UserError(f"json={options['json']}: must be true or false")
    record = None
    if options.get("run"):
        directory = user_path(options["run"], "run")
        record = _record(directory)
        if not options.get("file"):
            options["file"] = str(directory / str(record.get("picture", "")))
            if not Path(options["file"]).is_file():
                raise UserError(f"run={directory} has no finished picture: go on with the run, or name one with file=")
    if not options.get("file"):
        raise UserError("preflight needs a picture: file=PICTURE, or run=DIR for the picture of a run")
    return Request(input_path(options["file"], "file"), _tile(options.get("tile")), record, options.get("json") == "true")


def _record(directory: Path) -> Mapping[str, Any]:
    reading = read_run(directory)
    if not reading.record and reading.damage:
        raise UserError(missing_record_message(directory, reading))
    if not reading.record:
        raise UserError(f"run={directory} is no run directory: name one that holds a run.json")
    return reading.record


def _tile(text: str | None) -> tuple[int, int] | None:
    """Parse 192, or 192x320 for 192 px wide and 320 px tall; return (rows, columns) px."""
    if not text:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UserError(f"tile={text}: must be a number of px, or WIDTHxHEIGHT")
    width, height = int(parts[0]), int(parts[-1])
    if min(width, height) < LEAST_TILE:
        raise UserError(f"tile={text}: the seam meter needs tiles of at least {LEAST_TILE} px")
    return height, width
