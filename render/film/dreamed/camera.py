"""Camera of a dreamed film: maps between its frames, in px of the canvas. Pure, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from render.film.dreamed.timeline import CameraMotion, Timeline
from render.geometry.affine import Affine, Point


class Camera:
    """Maps between the frames of a film."""

    def __init__(self, timeline: Timeline, rate: Fraction, shape: tuple[int, int]) -> None:
        """Store the motion; `shape` is (rows, columns) px of every frame."""
        self._timeline = timeline
        self._rate = rate
        self._shape = shape
        #: For each frame so far, the map from its points to those of the first.
        self._to_first = [Affine()]

    def to_previous(self, frame: int) -> Affine:
        """Return the map from points of a frame, from 1 on, to those of the one before."""
        return step_map(self._timeline.motion(frame), self._rate, self._shape)

    def to_first(self, frame: int) -> Affine:
        """Return the map from points of a frame to those of the first."""
        while len(self._to_first) <= frame:
            self._to_first.append(self._to_first[-1].after(self.to_previous(len(self._to_first))))
        return self._to_first[frame]

    def to_later(self, frame: int, later: int) -> Affine:
        """Return the map from points of a frame to those of a later one."""
        back = Affine()
        for between in self._frames_after(frame, later):
            back = back.after(self.to_previous(between))
        return back.inverse()

    @staticmethod
    def _frames_after(frame: int, later: int) -> Iterator[int]:
        return iter(range(frame + 1, later + 1))


def step_map(motion: CameraMotion, rate: Fraction, shape: tuple[int, int]) -> Affine:
    """Return the map from points of a frame to those of the one before.

    The picture is magnified and turned about the centre, then shifted; the map undoes that.

    Args:
        motion: CameraMotion of the picture, a second.
        rate: Frames a second.
        shape: (rows, columns) px of the frames.
    """
    seconds = float(1 / rate)
    height, width = shape
    centre = Point(motion.centre[0] * width, motion.centre[1] * height)
    # Written so that no motion is the identity to the last bit.
    scale = 1.0 if motion.zoom == 1 else motion.zoom**-seconds
    back = Affine(x0=-motion.pan[0] * seconds * width, y0=-motion.pan[1] * seconds * width)
    return Affine.similarity(scale, -motion.turn * seconds, centre, Point(0.0, 0.0)).after(back)
