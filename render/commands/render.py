"""Commands `render`, `plan` and `sweep`: dream a picture, or a grid of pictures or films, or plan that."""

from __future__ import annotations

from collections.abc import Sequence

from render.commands.film import film_words, plan_film
from render.commands.table import MULTIRUN_FLAGS
from render.commands.touch import is_touch, plan_touch
from render.config.compose import is_film, is_sweep, load_config
from render.config.options import take_json
from render.config.schema import NO_LOOK, Config
from render.system import interrupts
from render.terminal.document import Document
from render.terminal.lines import print_lines

#: Beginnings of words that say what is dreamed, or how.
_CHOICES = ("look", "model", "objective", "conditioning")

# Modules that need JAX are imported by the functions, so that a wrong word is refused before.


def render_command(root: str, words: Sequence[str]) -> int:
    """Dream the picture of a config and print its place."""
    config = load_config(root, words)
    if not config.quiet and _is_plain_photo(config, root, words):
        print_lines("plain dream; a look suits most photographs better: add look=auto, or choose one of `make looks`")
    return _run_dream(config)


def plan_command(root: str, words: Sequence[str]) -> int:
    """Print what a job, a film or a touch, or with a grid or a flag of `MULTIRUN_FLAGS` a sweep of them, would do."""
    as_json, other_words = take_json(words)
    overrides = [word for word in other_words if word not in MULTIRUN_FLAGS]
    is_grid = len(overrides) < len(other_words)
    films = is_film(root, overrides)
    if not films and is_touch(overrides):
        plan_touch(overrides).print(as_json=as_json)
        return 0
    overrides = film_words(overrides) if films else overrides
    if is_grid or is_sweep(root, overrides) or (films and _has_axes(root, overrides)):
        from render.sweeps.estimate import sweep_plan

        document = sweep_plan(root, overrides)
    elif films:
        document = plan_film(root, overrides, quiet=as_json)
    else:
        config = load_config(root, overrides)
        # What is fetched is told on standard output, which belongs to the document in JSON.
        config.quiet |= as_json
        document = _plan(config)
    document.print(as_json=as_json)
    return 0


def sweep_command(root: str, words: Sequence[str]) -> int:
    """Render a grid of pictures or films; return 1 if any failed."""
    from render.sweeps.sweep import sweep

    return sweep(root, film_words(words) if is_film(root, words) else words)


def _has_axes(root: str, words: Sequence[str]) -> bool:
    """Return whether the words of a film give a key several values."""
    from render.sweeps.axes.parsing import has_axes

    return has_axes(root, words)


def _is_plain_photo(config: Config, root: str, words: Sequence[str]) -> bool:
    """Return True for a picture of the user's of which nothing was said but its name and size."""
    is_theirs = config.image != "noise" and not config.image.startswith("sample:")
    return (
        root == "preview" and config.look == NO_LOOK and is_theirs and not any(word.startswith(_CHOICES) for word in words)
    )


def _run_dream(config: Config) -> int:
    """Dream one picture."""
    from render.job.dream import dream
    from render.job.report import start_logging

    interrupts.hold()
    start_logging(quiet=config.quiet)
    dream(config)
    return 0


def _plan(config: Config) -> Document:
    """Return the plan of one job, which is made with its real kernels."""
    from render.job import job as jobs
    from render.job.plan_report import plan_document
    from render.job.program_report import shape_states
    from render.job.projection import is_projected, projection_document
    from render.job.report import start_logging

    interrupts.hold()
    start_logging(quiet=config.quiet)
    if is_projected(config):
        return projection_document(config)
    if config.farm.address is None:
        # The inline executor has the same machine and kernels, and starts no Ray.
        config.farm.executor = "inline"
    draft = jobs.draft(config)
    draft.resolved.directory.check()
    with jobs.prepared(draft) as job:
        window_seconds = jobs.calibrate(job)
        # Afterwards: calibration may compile a kernel.
        return plan_document(job, window_seconds, shape_states(job))
