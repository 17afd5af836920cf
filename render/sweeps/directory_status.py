"""State of the sweep or run in a directory, printed once or until it ends."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from render.errors import UserError
from render.job.run_record import missing_record_message, read_record, read_run
from render.storage.locking import is_locked
from render.storage.url import Place
from render.sweeps.monitor.board import Board
from render.sweeps.monitor.board_report import add_failures, board_document
from render.sweeps.monitor.event_log import EVENTS, Event
from render.sweeps.monitor.screen import Screen, update_progress
from render.sweeps.monitor.sweep_record import SWEEP, command_events, listed_points, read_sweep
from render.sweeps.run_status import run_document, run_summary
from render.system import interrupts
from render.terminal.console import PatientConsole
from render.terminal.text import one_line

#: Seconds between two reads of a directory on disk, and in an object store.
_POLL_S, _POLL_STORE_S = 0.5, 10.0
#: Seconds between two lines about a watched run without a terminal.
_LINE_EVERY_S = 15.0


def print_status(place: Place, *, watch: bool, as_json: bool = False) -> int:
    """Print the state of a sweep or a run.

    Args:
        place: The directory of a sweep or a run, or the URL of a run in an object store.
        watch: Show it until the sweep or run ends, and print it then. With `as_json` it is shown on standard error.
        as_json: Print JSON for programs.

    Returns:
        The exit code: 0, or 1 if a point or the run failed or its process is gone.

    Raises:
        UserError: If the directory has no readable sweep or run.
    """
    if not isinstance(place, Path):
        reading = read_run(place)
        if reading.record:
            return _run_status(place, _watch_console(as_json) if watch else None, as_json=as_json)
        raise UserError(missing_record_message(place, reading))
    if not place.is_dir():
        raise UserError(f"run={place}: there is no such directory")
    console = _watch_console(as_json) if watch else None
    if watch:
        interrupts.hold()
    if read_sweep(place):
        return _sweep_status(place, console, as_json=as_json)
    reading = read_run(place)
    if reading.record:
        return _run_status(place, console, as_json=as_json)
    if reading.damage:
        raise UserError(missing_record_message(place, reading))
    if (place / SWEEP).exists():
        raise UserError(f"run={place}: its {SWEEP} cannot be read: the command that made the sweep writes it anew")
    raise UserError(f"run={place} is neither a sweep's directory nor a run's: it holds no {SWEEP} and no run.json")


def is_gone(directory: Place, record: Mapping[str, Any]) -> bool:
    """Return whether a record says running although no process holds the directory's lock."""
    return record.get("status") == "running" and not is_locked(directory)


def _sweep_status(directory: Path, console: PatientConsole | None, *, as_json: bool) -> int:
    """Print the state of a sweep, after it was watched on the console if there is one."""
    if console is not None:
        _watch_sweep(directory, console)
    sweep = _settled(directory, read_sweep)
    board = Board.of(directory)
    gone = is_gone(directory, sweep)
    if gone:
        board.apply(Event("ended", board.latest, None, {"status": "broken off"}))
    update_progress(board, directory)
    document = board_document(board, str(directory), time.time())
    document.values(pid=sweep.get("pid"), is_gone=gone, command=_command(sweep) or None)
    if gone:
        document.sentence(f"the process that ran it (pid {sweep.get('pid', 'unknown')}) is gone: {_again(sweep)}")
    elif board.ended and board.counts.waiting + board.counts.failed:
        document.sentence(_again(sweep))
    add_failures(document, board)
    document.print(as_json=as_json)
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
                events = command_events(directory, sweep)
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


def _run_status(directory: Place, console: PatientConsole | None, *, as_json: bool) -> int:
    """Print the state of a run, after it was watched on the console if there is one."""
    record = _settled(directory, read_record)
    if console is not None:
        record = _watch_run(directory, record, console)
    gone = is_gone(directory, record)
    run_document(directory, record, gone=gone).print(as_json=as_json)
    return 1 if gone or record.get("status") == "failed" else 0


def _watch_run(directory: Place, record: dict[str, Any], console: PatientConsole) -> dict[str, Any]:
    """Show the state of a run until it ends; return its last record."""
    last_line_time = 0.0
    try:
        with console.status("") as status:
            while record.get("status") == "running" and not is_gone(directory, record):
                summary = run_summary(directory, record, gone=False)
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
    text = _command(sweep)
    return f"the same command goes on with it: {text}" if text else "the same command goes on with it"


def _command(sweep: Mapping[str, Any]) -> str:
    """Return the command that made a sweep; empty if it is not recorded."""
    command = sweep.get("command") or ""
    return command if isinstance(command, str) else shlex.join(map(str, command))


def _watch_console(as_json: bool) -> PatientConsole:
    """Return the console on which a sweep or run is watched: standard output belongs to the document in JSON."""
    return PatientConsole(file=sys.stderr if as_json else sys.stdout, soft_wrap=True)
