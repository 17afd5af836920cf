"""`preflight file=PICTURE [tile=PX] [run=DIR] [json=true]`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from render.errors import UserError
from render.job.run_record import read_run, without_record
from render.preflight.preflight import Request, inspect
from render.preflight.print_report import lines, plain
from render.preflight.seams import LEAST_TILE
from render.storage.user_paths import input_path, user_path
from render.terminal.lines import print_lines

_KEYS = ("file", "tile", "run", "json")


def preflight_command(words: Sequence[str]) -> None:
    """Print the report on the file that `key=value` words name; `UserError` where there can be none."""
    request = parse(words)
    report = inspect(request)
    if request.as_json:
        print(json.dumps(plain(report), indent=1))
    else:
        print_lines(*lines(report))


def parse(words: Sequence[str]) -> Request:
    """What the words on the command line ask for."""
    given = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in _KEYS:
            raise UserError(f"preflight does not know {key!r}: it takes {', '.join(f'{key}=' for key in _KEYS)}")
        given[key] = value
    if given.get("json", "false") not in ("true", "false"):
        raise UserError(f"json={given['json']}: must be true or false")
    record = None
    if given.get("run"):
        directory = user_path(given["run"], "run")
        record = _record(directory)
        if not given.get("file"):
            given["file"] = str(directory / str(record.get("picture", "")))
            if not Path(given["file"]).is_file():
                raise UserError(f"run={directory} has no finished picture: go on with the run, or name one with file=")
    if not given.get("file"):
        raise UserError("preflight needs a picture: file=PICTURE, or run=DIR for the picture of a run")
    return Request(input_path(given["file"], "file"), _tile(given.get("tile")), record, given.get("json") == "true")


def _record(directory: Path) -> Mapping[str, Any]:
    reading = read_run(directory)
    if not reading.record and reading.damage:
        raise UserError(without_record(directory, reading))
    if not reading.record:
        raise UserError(f"run={directory} is no run directory: name one that holds a run.json")
    return reading.record


def _tile(text: str | None) -> tuple[int, int] | None:
    """192, or 192x320 for 192 px wide and 320 px tall, as (rows, columns)."""
    if not text:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UserError(f"tile={text}: must be a number of px, or WIDTHxHEIGHT")
    width, height = int(parts[0]), int(parts[-1])
    if min(width, height) < LEAST_TILE:
        raise UserError(f"tile={text}: the seam meter needs tiles of at least {LEAST_TILE} px")
    return height, width
