"""`status run=DIR`: state of a sweep or a single run, for use from another terminal."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from render.config.options import check_switches, split_words
from render.errors import UserError
from render.job.run_record import missing_record_message, read_record, read_run
from render.storage.locking import is_locked
from render.storage.url import Place, checked_url
from render.storage.user_paths import user_path
from render.sweeps.board import SWEEP, Board, listed_points, read_sweep, told
from render.sweeps.event_log import EVENTS, Event
from render.sweeps.run_status import run_lines
from render.sweeps.screen import Screen, failure_lines, hear, picture
from render.system import interrupts
from render.terminal.console import PatientConsole, plain_console
from render.terminal.text import one_line

#: Seconds between two reads of a directory on disk, and in an object store.
_POLL_S, _POLL_STORE_S = 0.5, 10.0
#: Seconds between two lines about a watched run without a terminal.
_LINE_EVERY_S = 15.0


def print_status(words: Sequence[str]) -> int:
    """Print the state of the sweep or run that `run=DIR` names; with `watch=true` repeatedly until it ends.

    Returns:
        The exit code: 0, or 1 if a point or the run failed or its process is gone.

    Raises:
        UserError: If the directory has no readable sweep or run, or a word is unknown.
    """
    options = _options(words)
    url = checked_url(options["run"], "run")
    if url is not None:
        reading = read_run(url)
        if reading.record:
            return _run_status(url, options["watch"] == "true", plain_console())
        raise UserError(missing_record_message(url, reading))
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
        raise UserError(missing_record_message(directory, reading))
    if (directory / SWEEP).exists():
        raise UserError(f"run={directory}: its {SWEEP} cannot be read: the command that made the sweep writes it anew")
    raise UserError(f"run={directory} is neither a sweep's directory nor a run's: it holds no {SWEEP} and no run.json")


def is_gone(directory: Place, record: Mapping[str, Any]) -> bool:
    """Return whether a directory's record has the status running although no process holds its lock."""
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
    """Show a sweep until it ends or the user interrupts."""
    sweep = read_sweep(directory)
    screen = Screen(Board(listed_points(sweep)), directory, console=console)
    applied_events: list[Event] = []
    stamp: object = None
    try:
        while sweep.get("status") == "running" and not is_gone(directory, _settled(directory, read_sweep)):
            if stamp != (stamp := _stamp(directory)):
                sweep = read_sweep(directory)
                events = told(directory, sweep)
                if events[:1] != applied_events[:1]:
                    # Another command has begun, perhaps with other points.
                    screen.board, applied_events = Board(listed_points(sweep)), []
                for event in events[len(applied_events) :]:
                    screen.update(event)
                applied_events = events
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
    """Show the state of a run until it ends; return its last record."""
    last_line_time = 0.0
    try:
        with console.status("") as status:
            while record.get("status") == "running" and not is_gone(directory, record):
                summary = next(iter(run_lines(directory, record, gone=False)))
                status.update(Text(one_line(summary)))
                if not console.is_terminal and time.monotonic() - last_line_time > _LINE_EVERY_S:
                    last_line_time = time.monotonic()
                    console.write_line(summary)
                time.sleep(_POLL_S if isinstance(directory, Path) else _POLL_STORE_S)
                record = _settled(directory, read_record)
    except KeyboardInterrupt:
        pass
    return record


def _settled(directory: Place, read: Any) -> dict[str, Any]:
    """Read the record in a directory, twice if its process seems to be gone.

    A process writes its final record before it releases the lock, so a second read sees that record.
    """
    record: dict[str, Any] = read(directory)
    return (read(directory) or record) if is_gone(directory, record) else record


def _stamp(directory: Path) -> tuple[object, ...]:
    """Return a value that changes when a sweep's files change."""
    stats = [path.stat() if path.exists() else None for path in (directory / SWEEP, directory / EVENTS)]
    return tuple((stat.st_mtime_ns, stat.st_size) if stat else None for stat in stats)


def _again(sweep: Mapping[str, Any]) -> str:
    """Return a sentence about the command that resumes a sweep."""
    command = sweep.get("command") or ""
    text = command if isinstance(command, str) else shlex.join(map(str, command))
    return f"the same command goes on with it: {text}" if text else "the same command goes on with it"


def _options(words: Sequence[str]) -> dict[str, str]:
    options, unknown_words = split_words(words, {"run": "", "watch": "false"})
    if unknown_words:
        raise UserError(f"status does not know {unknown_words[0]!r}: give it run=DIR, and perhaps watch=true")
    if not options["run"]:
        raise UserError("status needs the directory of a sweep or a run: run=sweeps/NAME")
    check_switches(options, ["watch"])
    return options
