"""A whole dream as the command line and Python ask for it: begun, resumed, or found finished."""

from __future__ import annotations

from dataclasses import dataclass

from render.config.schema import Config
from render.job import job as jobs
from render.job import report
from render.job.progress import say
from render.planning.plan import Plan
from render.storage.url import Place


@dataclass(frozen=True)
class FinishedDream:
    """A finished dream: its run directory, its plan, and its pictures, that of `output.path` first."""

    directory: Place
    plan: Plan
    pictures: tuple[Place, ...]


def dream(config: Config, *, summarize: bool = True) -> FinishedDream:
    """Dream a picture, resume an interrupted run, or write what the pictures of a finished one lack.

    Args:
        config: A validated config.
        summarize: Print a line about the job before it, and its time and pictures after it, unless the config is quiet.

    Raises:
        RenderError: The job cannot work, or it stopped; the message says what to do.
        KeyboardInterrupt: The user stopped it; the canvas is saved, and the same config goes on.
    """
    draft = jobs.draft(config)
    directory = draft.resolved.directory
    quiet = draft.resolved.quiet or not summarize
    if directory.is_finished():
        say("already finished (fresh=true dreams it again)", quiet=quiet)
        pictures = jobs.make_again(draft)
        say(*map(str, pictures), quiet=quiet)
        return FinishedDream(directory.place, draft.plan, tuple(pictures))
    directory.check()
    directory.refuse_busy()
    jobs.say_resumption(draft)
    with jobs.prepared(draft) as job:
        say(report.summary(job), quiet=quiet)
        pictures = jobs.render(job)
        say(report.finished(job), *map(str, pictures), quiet=quiet)
        return FinishedDream(directory.place, job.plan, tuple(pictures))
