"""Command line: `python -m render [COMMAND] [conf=NAME] [key=value ...]`.

The commands are in `commands/table.py`.

`make` passes its key=value arguments in the environment variable RENDER_OVERRIDES, with the escapes of GNU make's
MAKEOVERRIDES, so that no shell splits or expands them.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import threading
from collections.abc import Sequence

from render.commands.table import COMMANDS, DEFAULT_COMMAND, DEFAULT_ROOT, HELP_WORDS, MULTIRUN_FLAGS, command_usage, usage
from render.config.options import AUTO_LOOK
from render.errors import ClusterLost, NodeLost, RenderError, UserError, WorkersLost
from render.system import interrupts
from render.system.large_pages import restart_with_large_pages
from render.system.surroundings import settle_warnings
from render.terminal.lines import line_width, print_lines
from render.terminal.streams import accept_any_text, dropped_output, outlast

#: Variables of the Makefile that a user may set besides the keys of a config.
_MAKEFILE_VARIABLES = ("PYTHON", "EXTRAS", "VENV")
#: The command that runs with Hydra's flag for a grid, by the command that the user names.
_GRID_COMMANDS = {"render": "sweep", "sweep": "sweep", "plan": "plan"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the words of the command line; None for those of this process.

    Returns:
        0, 1 if a part failed, 2 for a user error, or 130 if interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) + make_overrides(os.environ.get("RENDER_OVERRIDES", ""))
    accept_any_text()
    outlast()
    settle_warnings()
    interrupts.install()
    try:
        if any(word in HELP_WORDS for word in words):
            print_lines(*help_text(words).splitlines())
            _refuse_dropped_output()
            return 0
        command, root, overrides = split_arguments(words)
        if arguments is None and COMMANDS[command].dreams:
            restart_with_large_pages()
        return _run_again(command, root, overrides)
    except WorkersLost as error:
        print_lines(f"render: a worker was lost: {error}; run the command again", file=sys.stderr)
        return 2
    except RenderError as error:
        print_lines(f"render: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print_lines(f"render: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return interrupts.EXIT_CODE


def help_text(words: Sequence[str]) -> str:
    """Return the help on the command in the words, or on the program. Raise `UserError`."""
    subjects = [word for word in words if word not in HELP_WORDS and word not in MULTIRUN_FLAGS and _may_be_command(word)]
    if not subjects:
        return usage(line_width())
    _refuse_unknown(subjects[0])
    return command_usage(subjects[0], line_width())


def split_arguments(words: Sequence[str]) -> tuple[str, str, list[str]]:
    """Return command, root config and the other words of a command line. Raise `UserError`."""
    command, root, overrides = DEFAULT_COMMAND, "", []
    multirun_flags = [word for word in words if word in MULTIRUN_FLAGS]
    for position, word in enumerate(word for word in words if word not in MULTIRUN_FLAGS):
        if word.startswith("conf="):
            root = word.removeprefix("conf=")
        elif position == 0 and _may_be_command(word):
            command = word
        else:
            overrides.append(word)
    _refuse_unknown(command)
    if multirun_flags:
        if command not in _GRID_COMMANDS:
            raise UserError(f"{multirun_flags[0]} renders a grid, and {command} has none: drop it")
        command = _GRID_COMMANDS[command]
        # Only `plan` has to be told: a sweep is a grid anyway.
        overrides += multirun_flags[:1] if command == "plan" else []
    return command, root or COMMANDS[command].root or DEFAULT_ROOT, overrides


def make_overrides(escaped: str) -> list[str]:
    """Return the words in GNU make's MAKEOVERRIDES, without those that set Makefile variables.

    make separates the words by spaces. Inside a word it puts a backslash before every space, tab and backslash, doubles
    dollars, and leaves line breaks unchanged (`quote_for_env` in its `main.c`).
    """
    words = (
        re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL)
        for word in re.findall(r"(?:\\.|[^ \t\\])+", escaped.replace("$$", "$"), re.DOTALL)
    )
    return [word for word in words if not word.startswith(tuple(f"{name}=" for name in _MAKEFILE_VARIABLES))]


def _may_be_command(word: str) -> bool:
    return "=" not in word and not word.startswith("~")


def _refuse_unknown(command: str) -> None:
    if command in COMMANDS:
        return
    import difflib  # Only for this error: it would slow down every start.

    matches = difflib.get_close_matches(command, COMMANDS, n=1)
    hint = f"did you mean {matches[0]}? " if matches else ""
    raise UserError(f"there is no command {command!r}: {hint}choose {', '.join(COMMANDS)}")


def _run_again(command: str, root: str, overrides: list[str]) -> int:
    """Run a command, and once more if Ray itself ends: from the last checkpoint on."""
    try:
        return _run(command, root, overrides)
    except NodeLost as lost:
        if interrupts.is_stop_requested() or isinstance(lost, ClusterLost):
            raise
        print_lines(f"render: {lost}: starting Ray anew to go on", file=sys.stderr)
    # The first attempt has already started over, so the second one must resume it.
    return _run(command, root, ["fresh=false" if word.startswith("fresh=") else word for word in overrides])


def _run(name: str, root: str, words: list[str]) -> int:
    """Run a command once and return its exit code."""
    sender = os.environ.get("RENDER_SENT_BY")
    if sender is not None:
        from render.cluster.jobs import refuse_other_version

        refuse_other_version(sender)
    command = COMMANDS[name]
    if command.root is not None and AUTO_LOOK in words:
        # Imported only then: it would slow down every start.
        from render.job.looks import best_look

        look, reason = best_look(words)
        words = [f"look={look}" if word == AUTO_LOOK else word for word in words]
        if "quiet=true" not in words:
            # With `json=true`, standard output is for the document alone.
            print_lines(f"look={look}: {reason}", file=sys.stderr if "json=true" in words else None)
    arguments = [words] if command.root is None else [root, words]
    if command.dreams:
        return command.load()(*arguments)
    try:
        code = command.load()(*arguments)
        _refuse_dropped_output()
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. Discard the rest, or flushing at exit would raise an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _refuse_dropped_output() -> None:
    """Raise `UserError` if standard output, which is what a command is called for, could not be written whole."""
    error = dropped_output()
    if error is not None:
        raise UserError(f"standard output takes no more ({error.strerror}): what is there is not whole")


def _end_at_once() -> None:
    """End this process without freeing every object of JAX's one by one, which takes half a second.

    Python calls it after waiting for threads and after the functions that libraries have registered since. Do nothing if
    the process ends by an error, or if its output cannot be written: Python says so then.
    """
    if not _exit_codes:
        return
    logging.shutdown()
    try:
        # A process whose parent has closed one of them has None.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except (OSError, ValueError):
        return
    os._exit(_exit_codes[0])


#: The exit code, once it is known.
_exit_codes: list[int] = []

if __name__ == "__main__":
    atexit.register(_end_at_once)
    _code = main()
    interrupts.ignore_signals()
    if _code == interrupts.EXIT_CODE and any(not thread.daemon for thread in threading.enumerate()[1:]):
        # A call of a worker in this process, which Python would wait for: whoever asks twice wants it to end at once.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_code)
    _exit_codes.append(_code)
    sys.exit(_code)
