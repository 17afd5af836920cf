"""Keyframes of a dreamed film, checked: the settings that each names, in the order of time."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from render.config.film_schema import FilmConfig
from render.config.validation import require
from render.errors import UserError

#: A number, or two, that a film interpolates.
Numbers = tuple[float, ...]

#: Easings of the course from one keyframe to the next.
EASINGS = ("linear", "in", "out", "in_out")
#: Most keyframes of a film, and latest time of one, s.
_MAX_KEYFRAMES, _LAST_S = 10_000, 1e6


class _Range(NamedTuple):
    """Numbers that a setting may have: how many, from where to where, and the rule in words."""

    numbers: int
    least: float
    most: float
    rule: str


#: Settings that are numbers.
_RANGES = {
    "zoom": _Range(1, 0.01, 100.0, "must be from 0.01 to 100, a magnification in a second"),
    "pan": _Range(2, -10.0, 10.0, "must be two numbers from -10 to 10, such as [0.1,0]"),
    "turn": _Range(1, -3600.0, 3600.0, "must be from -3600 to 3600 degrees in a second"),
    "centre": _Range(2, -10.0, 11.0, "must be two shares of width and height, such as [0.5,0.5]"),
    "step_size": _Range(1, 1e-6, 255.0, "must be above 0 and at most 255 levels"),
    "fade": _Range(1, 0.0, 1.0, "must be from 0 to 1"),
    "hold": _Range(1, 0.0, 1.0, "must be from 0 to 1"),
    "octaves.steps": _Range(1, 0, 1_000_000, "must be a whole number from 0 to 1,000,000"),
}
#: Settings of a keyframe that choose a dream.
_DREAMS = ("objective", "look")
_KEYS = ("at", *_RANGES, *_DREAMS)


@dataclass(frozen=True)
class Keyframe:
    """Settings of a film from a time on.

    Attributes:
        at: Time from the film's start, s.
        numbers: The numbers that it names, by their keys.
        objective: Terms to dream; None if it names none.
        look: Name of a look, whose objective and conditioning it takes; None if it names none.
    """

    at: float
    numbers: Mapping[str, Numbers]
    objective: Sequence[object] | None = None
    look: str | None = None

    @property
    def names_dream(self) -> bool:
        """True if it says what to dream."""
        return self.objective is not None or self.look is not None


def read_keyframes(film: FilmConfig) -> tuple[Keyframe, ...]:
    """Return the film's keyframes; the first has the settings of the section itself.

    Raises:
        UserError: A setting has no meaning, or the keyframes are not in the order of time.
    """
    require(film.easing in EASINGS, "film.easing", film.easing, f"must be one of {', '.join(EASINGS)}")
    own = {key: getattr(film, key) for key in ("zoom", "pan", "turn", "centre", "fade", "hold")}
    first = Keyframe(0.0, {key: _numbers(value, key, f"film.{key}") for key, value in own.items()})
    keyframes = film.keyframes
    if not isinstance(keyframes, list | tuple) or len(keyframes) > _MAX_KEYFRAMES:
        raise UserError(
            f"film.keyframes must be a list of at most {_MAX_KEYFRAMES:,} mappings, such as [{{at: 2, zoom: 1.5}}]"
        )
    read = [first]
    for position, written in enumerate(keyframes):
        keyframe = _read(written, f"film.keyframes[{position}]")
        if position and keyframe.at <= read[-1].at:
            raise UserError(
                f"film.keyframes[{position}].at={keyframe.at:g} is not after {read[-1].at:g}, the one before: write "
                "keyframes in the order of time"
            )
        read.append(keyframe)
    return tuple(read)


def _read(written: object, name: str) -> Keyframe:
    """Return one keyframe; `name` says which, for messages."""
    if not isinstance(written, Mapping):
        raise UserError(f"{name}={written!r}: must be a mapping with at and settings, such as {{at: 2, zoom: 1.5}}")
    settings = {str(key): value for key, value in written.items()}
    octaves = settings.pop("octaves", None)
    if octaves is not None:
        if not isinstance(octaves, Mapping) or set(octaves) != {"steps"}:
            raise UserError(f"{name}.octaves={octaves!r}: only steps may change, such as octaves: {{steps: 3}}")
        settings["octaves.steps"] = octaves["steps"]
    for key in settings:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_KEYS)}"
            raise UserError(f"{name} has no setting {key!r}: {hint}")
    at = settings.pop("at", None)
    if not _is_number(at) or not 0 <= float(at) <= _LAST_S:
        raise UserError(f"{name}.at={at!r}: must be the time in seconds from the start, 0 or more")
    objective, look = settings.pop("objective", None), settings.pop("look", None)
    if objective is not None and look is not None:
        raise UserError(f"{name} names an objective and a look, which has one: leave one of them out")
    if objective is not None and (not isinstance(objective, list | tuple) or not objective):
        raise UserError(f"{name}.objective={objective!r}: must be a list of terms, such as [mixed4]")
    if look is not None and not isinstance(look, str):
        raise UserError(f"{name}.look={look!r}: must be the name of a look")
    numbers = {key: _numbers(value, key, f"{name}.{key}") for key, value in settings.items()}
    return Keyframe(float(at), numbers, objective, look)


def _numbers(value: Any, key: str, name: str) -> Numbers:
    """Return the numbers of a setting; raise `UserError` if they have no meaning."""
    bounds = _RANGES[key]
    values = list(value) if isinstance(value, list | tuple) else [value]
    fits = len(values) == bounds.numbers and (bounds.numbers > 1) == isinstance(value, list | tuple)
    fits = fits and all(_is_number(number) and bounds.least <= number <= bounds.most for number in values)
    fits = fits and (key != "octaves.steps" or isinstance(value, int))
    require(fits, name, value, bounds.rule)
    return tuple(map(float, values))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
