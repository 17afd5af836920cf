"""Settings of every frame of a dreamed film, interpolated between keyframes. Pure.

Each setting has a track of its own, of the keyframes that name it: between two of them it is interpolated, before the first
and after the last it holds. What a frame is dreamed with therefore never depends on the film's length.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from render.film.dreamed.keyframes import Keyframe, Numbers

#: Share of the way to the next keyframe by the share of the time.
_COURSES: dict[str, Callable[[float], float]] = {
    "linear": lambda share: share,
    "in": lambda share: share * share,
    "out": lambda share: 1.0 - (1.0 - share) ** 2,
    "in_out": lambda share: share * share * (3.0 - 2.0 * share),
}


class CameraMotion(NamedTuple):
    """CameraMotion of the picture at a time, a second.

    Attributes:
        zoom: Magnification.
        pan: Shift to the right and down, shares of the width.
        turn: Turn counterclockwise, degrees.
        centre: Point that stays where it is, shares of width and height.
    """

    zoom: float
    pan: tuple[float, float]
    turn: float
    centre: tuple[float, float]


class Crossfade(NamedTuple):
    """The dreams that a frame is between, by number, and the share of the second, 0 to 1."""

    first: int
    second: int
    share: float


class FrameSettings(NamedTuple):
    """Settings of a frame but its motion.

    Attributes:
        fade: Share of the picture that the frame starts with, 0 to 1.
        hold: Strength with which colours are held, 0 to 1.
        dream: What is dreamed.
        step_size: Mean distance of a step, levels; None for that of the dream.
        steps: Steps at every octave; None for those of the dream.
    """

    fade: float
    hold: float
    dream: Crossfade
    step_size: float | None
    steps: int | None


@dataclass(frozen=True)
class _Track:
    """Course of one setting: its values at some times, in order."""

    times: tuple[float, ...]
    values: tuple[Numbers, ...]

    def at(self, time: float, course: Callable[[float], float]) -> Numbers:
        """Return the value at a time, s."""
        first, second, share = self.place(time, course)
        before, after = self.values[first], self.values[second]
        return tuple(start + (stop - start) * share for start, stop in zip(before, after, strict=True))

    def place(self, time: float, course: Callable[[float], float]) -> Crossfade:
        """Return between which values a time lies, by number, and the share of the second."""
        after = bisect_right(self.times, time)
        if after == 0 or after == len(self.times):
            number = max(0, after - 1)
            return Crossfade(number, number, 0.0)
        start, stop = self.times[after - 1], self.times[after]
        return Crossfade(after - 1, after, course((time - start) / (stop - start)))


class Timeline:
    """Course of all settings of a film.

    Attributes:
        dreams: The keyframes that say what to dream, in order. The first is the film's own: what its job dreams, unless it
            names another at time 0.
    """

    def __init__(
        self,
        keyframes: Sequence[Keyframe],
        rate: Fraction,
        easing: str = "linear",
        *,
        step_size: float | None = None,
        steps: float | None = None,
    ) -> None:
        """Lay the keyframes out in time.

        Args:
            keyframes: The keyframes, from the film's own settings on: see `read_keyframes`.
            rate: Frames a second.
            easing: Course between two keyframes, one of `keyframes.EASINGS`.
            step_size: Step size before the first keyframe that names one, levels.
            steps: Steps before the first keyframe that names some.
        """
        self._rate = rate
        self._course = _COURSES[easing]
        self._tracks = {
            key: _track(keyframes, key)
            for key in ("zoom", "pan", "turn", "centre", "fade", "hold", "step_size", "octaves.steps")
        }
        for key, value in (("step_size", step_size), ("octaves.steps", steps)):
            track = self._tracks[key]
            if track is not None and value is not None and track.times[0] > 0:
                self._tracks[key] = _Track((0.0, *track.times), ((float(value),), *track.values))
        zooms = self._tracks["zoom"]
        assert zooms is not None, "the film's own settings have a zoom"
        # As a logarithm, so that the magnification changes evenly to the eye.
        self._zooms = _Track(zooms.times, tuple((math.log(zoom),) for (zoom,) in zooms.values))
        dreams = {keyframes[0].at: keyframes[0]} | {frame.at: frame for frame in keyframes if frame.names_dream}
        self.dreams = tuple(dreams.values())
        self._dreams = _Track(tuple(dreams), tuple((0.0,) for _ in dreams))

    def time(self, frame: int) -> float:
        """Return the time of a frame, s."""
        return float(frame / self._rate)

    def motion(self, frame: int) -> CameraMotion:
        """Return the motion from the frame before to this one, at the middle between them."""
        time = float(Fraction(2 * frame - 1, 2) / self._rate)
        pan, centre = self._value("pan", time), self._value("centre", time)
        (log_zoom,) = self._zooms.at(time, self._course)
        return CameraMotion(math.exp(log_zoom), (pan[0], pan[1]), self._value("turn", time)[0], (centre[0], centre[1]))

    def settings(self, frame: int) -> FrameSettings:
        """Return the settings of a frame."""
        time = self.time(frame)
        steps = self._optional("octaves.steps", time)
        return FrameSettings(
            fade=self._value("fade", time)[0],
            hold=self._value("hold", time)[0],
            dream=self._dreams.place(time, self._course),
            step_size=self._optional("step_size", time),
            steps=None if steps is None else round(steps),
        )

    def _value(self, key: str, time: float) -> Numbers:
        track = self._tracks[key]
        assert track is not None, f"the film's own settings have {key}"
        return track.at(time, self._course)

    def _optional(self, key: str, time: float) -> float | None:
        """Return a setting that perhaps no keyframe names; None before it is known."""
        track = self._tracks[key]
        return None if track is None else track.at(time, self._course)[0]


def _track(keyframes: Sequence[Keyframe], key: str) -> _Track | None:
    """Return the track of a setting; None if no keyframe names it. Of two at one time the later counts."""
    named = {keyframe.at: keyframe.numbers[key] for keyframe in keyframes if key in keyframe.numbers}
    return _Track(tuple(named), tuple(named.values())) if named else None
