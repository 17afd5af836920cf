"""`status run=DIR`: how a sweep, or a single run, stands, seen from another terminal."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from render.config.options import check_switches, split_words
from render.errors import UserError
from render.job.run_record import read_record, read_run, without_record
from render.storage.locking import is_locked
from render.storage.url import Place, checked_url
from render.storage.user_paths import user_path
from render.sweep.board import SWEEP, Board, listed_points, read_sweep, told
from render.sweep.event_log import EVENTS, Event
from render.sweep.run_status import run_lines
from render.sweep.screen import Screen, failure_lines, hear, picture
from render.system import interrupts
from render.terminal.console import PatientConsole, plain_console
from render.terminal.text import one_line

#: Seconds between two looks at a disk, and at an object store.
_POLL_S, _POLL_STORE_S = 0.5, 10.0
#: Seconds between two lines of a run that is watched where there is no terminal.
_LINE_EVERY_S = 15.0


def print_status(words: Sequence[str]) -> int:
    """Prints how what `run=DIR` among the words names stands; with `watch=true` again and again until it ends.

    Returns the exit code: 0, or 1 where a point or the run failed or its process is gone. Raises `UserError`.
    """
    options = _options(words)
    url = checked_url(options["run"], "run")
    if url is not None:
        reading = read_run(url)
        if reading.record:
            return _run_status(url, options["watch"] == "true", plain_console())
        raise UserError(without_record(url, reading))
    directory = user_path(options["run"], "run")
    if not directory.is_dir():
        raise UserError(f"run={directory}: there is no such directory")
    watch, console = options["watch"] == "true", plain_console()
    if watch:
        interrupts.hold()
    if read_sweep(directory):
        return _sweep_status(directory, watch, console)
    reading = read_run(directory)
    if reading.record:
        return _run_status(directory, watch, console)
    if reading.damage:
        raise UserError(without_record(directory, reading))
    if (directory / SWEEP).exists():
        raise UserError(f"run={directory}: its {SWEEP} cannot be read: the command that made the sweep writes it anew")
    raise UserError(f"run={directory} is neither a sweep's directory nor a run's: it holds no {SWEEP} and no run.json")


def is_gone(directory: Place, record: Mapping[str, Any]) -> bool:
    """Whether a record that is read from a directory says that it is being worked on, and nobody does."""
    return record.get("status") == "running" and not is_locked(directory)


def _sweep_status(directory: Path, watch: bool, console: PatientConsole) -> int:
    if watch:
        _watch_sweep(directory, console)
    sweep = _settled(directory, read_sweep)
    board = Board.of(directory)
    gone = is_gone(directory, sweep)
    if gone:
        board.apply(Event("ended", board.latest, None, {"status": "broken off"}))
    hear(board, directory)
    console.print(picture(board, str(directory), time.time(), console.width))
    if gone:
        console.write_line(f"the process that ran it (pid {sweep.get('pid', 'unknown')}) is gone: {_again(sweep)}")
    elif board.ended and board.counts.waiting + board.counts.failed:
        console.write_line(_again(sweep))
    for line in failure_lines(board):
        console.write_line(line)
    return 1 if gone or board.counts.failed or board.status in ("failed", "stopped") else 0


def _watch_sweep(directory: Path, console: PatientConsole) -> None:
    """Shows a sweep until it ends, or whoever watches has seen enough."""
    sweep = read_sweep(directory)
    screen = Screen(Board(listed_points(sweep)), directory, console=console)
    seen: list[Event] = []
    stamp: object = None
    try:
        while sweep.get("status") == "running" and not is_gone(directory, _settled(directory, read_sweep)):
            if stamp != (stamp := _stamp(directory)):
                sweep = read_sweep(directory)
                events = told(directory, sweep)
                if events[:1] != seen[:1]:
                    # Another command has begun, perhaps of other points.
                    screen.board, seen = Board(listed_points(sweep)), []
                for event in events[len(seen) :]:
                    screen.update(event)
                seen = events
            screen.tick()
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        return
    finally:
        screen.close()


def _run_status(directory: Place, watch: bool, console: PatientConsole) -> int:
    record = _settled(directory, read_record)
    if watch:
        record = _watch_run(directory, record, console)
    gone = is_gone(directory, record)
    for line in run_lines(directory, record, gone=gone):
        console.write_line(line)
    return 1 if gone or record.get("status") == "failed" else 0


def _watch_run(directory: Place, record: dict[str, Any], console: PatientConsole) -> dict[str, Any]:
    """Shows where a run stands until it ends; returns its record then."""
    last = 0.0
    try:
        with console.status("") as status:
            while record.get("status") == "running" and not is_gone(directory, record):
                where = next(iter(run_lines(directory, record, gone=False)))
                status.update(Text(one_line(where)))
                if not console.is_terminal and time.monotonic() - last > _LINE_EVERY_S:
                    last = time.monotonic()
                    console.write_line(where)
                time.sleep(_POLL_S if isinstance(directory, Path) else _POLL_STORE_S)
                record = _settled(directory, read_record)
    except KeyboardInterrupt:
        pass
    return record


def _settled(directory: Place, read: Any) -> dict[str, Any]:
    """The record in a directory. Its process writes how it ended before it lets go of the lock, so that of a process that
    seems to be gone is read once more.
    """
    record: dict[str, Any] = read(directory)
    return (read(directory) or record) if is_gone(directory, record) else record


def _stamp(directory: Path) -> tuple[object, ...]:
    """Changes when a sweep's files do."""
    stats = [path.stat() if path.exists() else None for path in (directory / SWEEP, directory / EVENTS)]
    return tuple((stat.st_mtime_ns, stat.st_size) if stat else None for stat in stats)


def _again(sweep: Mapping[str, Any]) -> str:
    """What goes on with a sweep."""
    command = sweep.get("command") or ""
    text = command if isinstance(command, str) else shlex.join(map(str, command))
    return f"the same command goes on with it: {text}" if text else "the same command goes on with it"


def _options(words: Sequence[str]) -> dict[str, str]:
    options, others = split_words(words, {"run": "", "watch": "false"})
    if others:
        raise UserError(f"status does not know {others[0]!r}: give it run=DIR, and perhaps watch=true")
    if not options["run"]:
        raise UserError("status needs the directory of a sweep or a run: run=sweeps/NAME")
    check_switches(options, ["watch"])
    return options
