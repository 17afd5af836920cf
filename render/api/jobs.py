"""`render.dream` and `render.plan`: a job from keywords, in the process of a notebook or a program."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from render.api.objective import Objective
from render.config.compose import groups_of
from render.config.keywords import config_of
from render.config.schema import Config
from render.errors import UserError
from render.job import job as jobs
from render.job.run_record import read_run
from render.planning.plan import Plan
from render.storage.url import Place
from render.system import interrupts

#: Longest side of the picture that a notebook shows, px.
_SHOWN_SIDE = 1024
Source = str | os.PathLike[str] | None
Target = Objective | str | Sequence[Any] | Mapping[str, Any] | None


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
        small.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
        content = io.BytesIO()
        small.save(content, "png")
        return content.getvalue()


def dream(
    image: Source = None,
    *,
    objective: Target = None,
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
    with running():
        draft = jobs.draft(config)
        if draft.directory.is_finished():
            paths = jobs.make_again(draft)
            return _result(draft.directory.place, draft.plan, paths)
        draft.directory.check()
        draft.directory.refuse_busy()
        jobs.say_resumption(draft)
        with jobs.prepared(draft) as job:
            paths = jobs.render(job)
            return _result(job.directory.place, job.plan, paths)


def plan(
    image: Source = None,
    *,
    objective: Target = None,
    width: int | None = None,
    height: int | None = None,
    root: str = "preview",
    **settings: Any,
) -> Plan:
    """Return what `dream` would do with the same arguments: octaves, tiles, memory, disk and arithmetic.

    Nothing is written, fetched or compiled, and memory is estimated. Raises what `dream` raises.
    """
    config = job_config(image, objective, root, settings, width=width, height=height, quiet=True)
    with running():
        return jobs.draft(config).plan


def job_config(
    image: Source,
    objective: Target,
    root: str,
    settings: Mapping[str, Any],
    *,
    width: int | None,
    height: int | None,
    quiet: bool,
) -> Config:
    """Return the config that the arguments of `dream` mean; raises `UserError`."""
    shorthands = {"image": image, "output.width": width, "output.height": height, "quiet": quiet}
    named = {key: value for key, value in shorthands.items() if value is not None}
    return config_of(root, {**named, **objective_settings(objective), **settings})


def objective_settings(objective: Target) -> dict[str, Any]:
    """Return the settings that an objective stands for: a preset where there is one of that name, else terms."""
    if objective is None:
        return {}
    if isinstance(objective, Objective):
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
    """Around a job in somebody else's process: the log is kept in full, and an interrupt saves the canvas first."""
    logger = logging.getLogger("render")
    level = logger.level
    logger.setLevel(logging.INFO)
    silence = logging.NullHandler()
    logger.addHandler(silence)
    try:
        with interrupts.handled_here(), warnings.catch_warnings():
            # Ray's processes begin with a fork that is followed by exec, which ends the threads that this warns of.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            yield
    finally:
        logger.removeHandler(silence)
        logger.setLevel(level)


def _result(place: Place, planned: Plan, paths: Sequence[Place]) -> Result:
    record = read_run(place).record or {}
    gradients = tuple(tuple(map(float, octave["mean_gradient"])) for octave in record.get("octaves", []))
    return Result(tuple(paths), place, planned, gradients)
