"""Command `export run=DIR`: write a run's canvas to other picture files."""

from __future__ import annotations

from collections.abc import Sequence

from render.errors import UserError
from render.job import report
from render.job.progress import say
from render.job.reexport import export_run
from render.storage.url import checked_url
from render.storage.user_paths import user_path
from render.system import interrupts

_RUN, _QUIET = "run=", "quiet=true"


def export_command(words: Sequence[str]) -> int:
    """Export the run that `run=DIR` names, and print the places of the pictures."""
    runs = [word.removeprefix(_RUN) for word in words if word.startswith(_RUN)]
    if len(runs) != 1 or not runs[0]:
        raise UserError("export needs one run=DIR, such as run=dreams/poster-1a2b3c4d")
    quiet = _QUIET in words
    report.start_logging(quiet=True)
    # An exception cannot pass through libvips: it is raised where the canvas is read, and half-written files are removed.
    interrupts.hold()
    with interrupts.deferred(quiet=True):
        pictures = export_run(
            checked_url(runs[0], "run") or user_path(runs[0], "run"),
            [word for word in words if not word.startswith(_RUN)],
            lambda line: say(line, quiet=quiet),
        )
        say(*map(str, pictures), quiet=quiet)
    interrupts.check()
    return 0
