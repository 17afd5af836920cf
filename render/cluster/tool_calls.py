"""Running of the programs that clusters need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from render.errors import UserError

_MAX_ANSWER_S = 20.0


def ray_command(*arguments: str) -> list[str]:
    """Return a command line of Ray's own program, with the Ray that this process would import."""
    return [sys.executable, "-m", "ray.scripts.scripts", *arguments]


def output_of(
    arguments: Sequence[str | Path],
    *,
    timeout_s: float = _MAX_ANSWER_S,
    directory: Path | None = None,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program; return its exit code and output.

    Args:
        arguments: The program and its arguments.
        timeout_s: Longest time that it may take, s.
        directory: Its working directory; None for that of this process.
        stdin: Text on its standard input.
        environment: Its environment; None for that of this process.

    Raises:
        UserError: It takes longer.
    """
    try:
        return subprocess.run(
            [*map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            cwd=directory,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"`{_command_text(arguments)}` gives no answer in {timeout_s:g} s: is the network up?") from None


def run(arguments: Sequence[str | Path], *, directory: Path | None = None, stdin: str | None = None) -> None:
    """Run a program that prints for the user itself. Raise `UserError` if it fails."""
    sys.stdout.flush()
    code = subprocess.run([*map(str, arguments)], cwd=directory, input=stdin, text=True, check=False).returncode
    if code:
        raise UserError(f"`{_command_text(arguments)}` failed with exit code {code}: what it printed above says why")


def last_line(text: str) -> str:
    """Return the last line that is not empty: in most programs' output, it states the reason."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no reason given"


def _command_text(arguments: Sequence[str | Path]) -> str:
    words = [*map(str, arguments)]
    if words[:3] == ray_command():
        words[:3] = ["ray"]
    return " ".join(words)
