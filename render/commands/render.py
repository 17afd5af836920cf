"""Commands `render`, `plan` and `sweep`: dream a picture or a grid of them, or plan that."""

from __future__ import annotations

from collections.abc import Sequence

from render.commands.table import MULTIRUN_FLAGS
from render.config.compose import is_sweep, load_config
from render.config.schema import Config
from render.system import interrupts

# Modules that need JAX are imported by the functions, so that a wrong word is refused before.


def render_command(root: str, words: Sequence[str]) -> int:
    """Dream the picture of a config and print its place."""
    return _render_or_plan("render", load_config(root, words))


def plan_command(root: str, words: Sequence[str]) -> int:
    """Print what a job, or with a grid or a flag of `MULTIRUN_FLAGS` a sweep, would do."""
    overrides = [word for word in words if word not in MULTIRUN_FLAGS]
    if len(overrides) < len(words) or is_sweep(root, overrides):
        from render.sweeps.estimate import print_sweep_plan

        print_sweep_plan(root, overrides)
        return 0
    return _render_or_plan("plan", load_config(root, overrides))


def sweep_command(root: str, words: Sequence[str]) -> int:
    """Render a grid of pictures; return 1 if any failed."""
    from render.sweeps.sweep import sweep

    return sweep(root, words)


def _render_or_plan(command: str, config: Config) -> int:
    from render.job import job as jobs
    from render.job import report
    from render.job.progress import say

    interrupts.hold()
    report.start_logging(quiet=config.quiet)
    if command == "plan":
        from render.job.projection import is_projected, print_projection

        if is_projected(config):
            print_projection(config)
            return 0
    if command == "plan" and config.farm.address is None:
        # The inline executor has the same machine and kernels, and starts no Ray.
        config.farm.executor = "inline"
    draft = jobs.draft(config)
    directory = draft.directory
    if directory.is_finished() and command == "render":
        say("already finished (fresh=true dreams it again)", quiet=config.quiet)
        say(*map(str, jobs.make_again(draft)), quiet=config.quiet)
        return 0
    directory.check()
    if command == "render":
        directory.refuse_busy()
        jobs.say_resumption(draft)
    with jobs.prepared(draft) as job:
        if command == "plan":
            report.print_plan(job, jobs.calibrate(job))
            return 0
        say(report.summary(job), quiet=config.quiet)
        pictures = jobs.render(job)
        say(report.finished(job), *map(str, pictures), quiet=config.quiet)
    return 0
