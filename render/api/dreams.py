"""`render.dream` and `render.plan`: a job from keywords, in the process of a notebook or a program."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from render.api.objective import ObjectiveExpression
from render.config.compose import groups_of
from render.config.keywords import config_of
from render.config.schema import Config
from render.errors import UserError
from render.job.dream import dream as finish_dream
from render.job.job import draft
from render.job.looks import best_look
from render.job.run_record import read_run
from render.planning.plan import Plan
from render.storage.url import Place
from render.system import interrupts

#: Longest side of the picture that a notebook shows, px.
_MAX_SHOWN_SIDE = 1024
#: Argument `image` of `dream`: a path or URL, `sample:NAME`, `noise`, or None for the root config's.
ImageArgument = str | os.PathLike[str] | None
#: Argument `objective` of `dream`.
ObjectiveArgument = ObjectiveExpression | str | Sequence[Any] | Mapping[str, Any] | None


@dataclass(frozen=True)
class Result:
    """A finished dream. In a notebook it shows itself.

    Attributes:
        paths: The pictures, that of `output.path` first; text for those in an object store.
        directory: The run directory, with the canvas, the log and `run.json`.
        plan: Octaves, tiles, memory and cost.
        gradients: mean|g| of every step, in levels of 255, a list for each octave, coarse to fine.
    """

    paths: tuple[Place, ...]
    directory: Place
    plan: Plan
    gradients: tuple[tuple[float, ...], ...]

    @cached_property
    def picture(self) -> Image.Image:
        """The picture as Pillow has it, decoded when it is first asked for.

        Raises:
            UserError: Where it is not a file that Pillow reads: in an object store, or of a format with many files.
        """
        path = self.paths[0]
        if not isinstance(path, Path) or not path.is_file():
            raise UserError(f"{path} is no picture file on this machine: set output.format=png, or open it there")
        try:
            picture = Image.open(path)
            picture.load()
        except (OSError, Image.DecompressionBombError) as error:
            raise UserError(f"{path} cannot be read by Pillow ({error}): set output.format=png") from None
        return picture

    def _repr_png_(self) -> bytes:
        """Return the picture as PNG, at most 1,024 px a side."""
        small = self.picture.convert("RGB")
        small.thumbnail((_MAX_SHOWN_SIDE, _MAX_SHOWN_SIDE))
        content = io.BytesIO()
        small.save(content, "png")
        return content.getvalue()


def dream(
    image: ImageArgument = None,
    *,
    objective: ObjectiveArgument = None,
    width: int | None = None,
    height: int | None = None,
    root: str = "preview",
    quiet: bool = False,
    **settings: Any,
) -> Result:
    """Dream a picture, or go on with a run that was stopped, as `python -m render` would with the same settings.

    Args:
        image: A path or URL, `sample:NAME`, or `noise`; None takes the root config's.
        objective: An `Objective`, one term as text (`"mixed4"`), a list of terms, or the name of a preset (`"dogs"`).
        width: Width of the picture, px; None keeps the config's.
        height: Height, px; None keeps the aspect.
        root: The root config, by name or path.
        quiet: Show no progress.
        **settings: Keys of the config, nested or with the dots in quotes:
            `octaves={"count": 4}, step_size=2, **{"output.dir": "run"}`.

    Returns:
        The picture, where it lies, and how the dream went.

    Raises:
        UserError: For settings that cannot work, in one line. Other errors are in `render.errors`.
        KeyboardInterrupt: At an interrupt; the canvas is saved, and the same call goes on.
    """
    config = job_config(image, objective, root, settings, width=width, height=height, quiet=quiet)
    if config.farm.executor == "auto":
        # The caller's process stays as it is: its JAX may have other settings, and its notebook goes on.
        config = replace(config, farm=replace(config.farm, executor="ray"))
    with running():
        finished = finish_dream(config, summarize=False)
    record = read_run(finished.directory).record or {}
    gradients = tuple(tuple(map(float, octave["mean_gradient"])) for octave in record.get("octaves", []))
    return Result(finished.pictures, finished.directory, finished.plan, gradients)


def plan(
    image: ImageArgument = None,
    *,
    objective: ObjectiveArgument = None,
    width: int | None = None,
    height: int | None = None,
    root: str = "preview",
    **settings: Any,
) -> Plan:
    """Return what `dream` would do with the same arguments: octaves, tiles, memory, disk and arithmetic.

    Nothing is written, fetched or compiled, and memory is estimated.

    Args:
        image: As for `dream`.
        objective: As for `dream`.
        width: As for `dream`.
        height: As for `dream`.
        root: As for `dream`.
        **settings: As for `dream`.

    Raises:
        UserError: For settings that cannot work, in one line.
    """
    config = job_config(image, objective, root, settings, width=width, height=height, quiet=True)
    with running():
        return draft(config).plan


def job_config(
    image: ImageArgument,
    objective: ObjectiveArgument,
    root: str,
    settings: Mapping[str, Any],
    *,
    width: int | None,
    height: int | None,
    quiet: bool,
) -> Config:
    """Return the config that the arguments of `dream` mean; `settings` are its other keywords. Raises `UserError`."""
    shorthands = {"image": image, "output.width": width, "output.height": height, "quiet": quiet}
    named = {key: value for key, value in shorthands.items() if value is not None}
    if settings.get("look") == "auto":
        settings = {**settings, "look": best_look()[0]}
    return config_of(root, {**named, **objective_settings(objective), **settings})


def objective_settings(objective: ObjectiveArgument) -> dict[str, Any]:
    """Return the settings that an objective stands for: a preset where there is one of that name, else terms.

    Raises:
        UserError: For what is neither an `Objective`, a term nor a list of terms.
    """
    if objective is None:
        return {}
    if isinstance(objective, ObjectiveExpression):
        return {"objective.terms": list(objective.terms)}
    if isinstance(objective, str):
        presets = groups_of("preview").get("objective", [])
        return {"objective": objective} if objective in presets else {"objective.terms": [objective]}
    if isinstance(objective, Mapping):
        return {"objective.terms": [objective]}
    if not isinstance(objective, Sequence):
        raise UserError(f"objective={objective!r}: give an Objective, a term such as 'mixed4', or a list of terms")
    return {"objective.terms": list(objective)}


@contextmanager
def running() -> Iterator[None]:
    """Run a job inside a caller's own process: keep the log in full, and save the canvas first at an interrupt."""
    logger = logging.getLogger("render")
    level = logger.level
    logger.setLevel(logging.INFO)
    null_handler = logging.NullHandler()
    logger.addHandler(null_handler)
    try:
        with interrupts.handled_here(), warnings.catch_warnings():
            # Ray's processes begin with a fork that is followed by exec, which ends the threads that this warns of.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            yield
    finally:
        logger.removeHandler(null_handler)
        logger.setLevel(level)
