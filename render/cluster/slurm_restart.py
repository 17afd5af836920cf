"""Memory that a Slurm job has of its earlier starts, after which it was queued again.

A small file beside the job's log says whether a render of the job has begun. It goes with the job; one that Slurm kills
leaves it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from render.system.beginning import BEGUN

#: A job whose time is up before a render of it has begun is queued again at most so many times.
MAX_IDLE_RESTARTS = 3
_WAITING = "waiting\n"


@dataclass(frozen=True)
class BeginningNote:
    """Note of whether a render of a job has begun.

    Attributes:
        path: File of the note, in a directory that all nodes see.
        restarts: How many times the job was queued again.
    """

    path: Path
    restarts: int

    @classmethod
    def of_job(cls, environment: Mapping[str, str]) -> BeginningNote:
        """Return the note of the job that Slurm's variables describe."""
        restarts = environment.get("SLURM_RESTART_COUNT", "")
        path = Path.cwd() / f".pareidolia-{environment['SLURM_JOB_ID']}.begun"
        return cls(path, int(restarts) if restarts.isdecimal() else 0)

    def open(self) -> None:
        """Write the note at the job's first start; later ones leave it as it is."""
        if self.restarts == 0:
            # Without a note, a job that was queued again counts as begun.
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
                self.path.write_text(_WAITING, encoding="utf-8")

    def has_begun(self) -> bool:
        """Return whether a render has begun; without the note, whether the job was queued again."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return self.restarts > 0
        return text == BEGUN or (text != _WAITING and self.restarts > 0)

    def remove(self) -> None:
        """Remove the note: the job ends."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def words_of_restart(words: Sequence[str], note: BeginningNote) -> list[str]:
    """Return a job's words, with which it goes on if a render of it has begun before, also with `fresh: true` in a YAML."""
    if not (note.restarts and note.has_begun()):
        return list(words)
    return [*(word for word in words if not word.startswith("fresh=")), "fresh=false"]
