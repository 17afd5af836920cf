"""Schedule of the shots of a film: which are dreamed now, by how many workers each, and how far ahead. Pure.

Shots depend on nothing before them. As many as there are workers are dreamed at once, the earliest first; if they are
fewer, the workers are divided among them. A shot gives its workers back between two frames, where another division is due.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

#: Part of the frames ahead that must be free before a shot that has reached the limit goes on.
_ROOM_SHARE = 2


@dataclass(eq=False)
class Shot:
    """A shot, or the rest of one.

    Attributes:
        next: Number of the next frame to dream.
        end: Number of the frame after its last one; None until that is known.
        workers: Workers that dream it now.
        gives_way: True if it is to give its workers back after the frame in hand.
    """

    next: int
    end: int | None = None
    workers: int = 0
    gives_way: bool = False


class ShotSchedule:
    """Schedule of the shots of the frames from `first` to before `last`.

    Attributes:
        searched: Number of the frame before which all shots are known.
    """

    def __init__(
        self, first: int, last: int, ahead: int, most_workers: int, finished: Collection[int] = frozenset()
    ) -> None:
        """Begin with the shot of the first frame, and no workers.

        Args:
            first: Number of the first frame that is to be taken.
            last: Number of the frame after the last.
            ahead: Most frames that may be dreamed but not taken, at least 2.
            most_workers: Most workers that a shot can use.
            finished: Numbers of frames that an earlier run dreamed.
        """
        self._taken, self._last, self._ahead, self._most_workers = first, last, ahead, most_workers
        self._finished = frozenset(finished)
        self._shots: list[Shot] = []
        self.searched = first
        self.search(first, begins=True)

    @property
    def limit(self) -> int:
        """Number of the first frame that is too far ahead, or after the last."""
        return min(self._last, self._taken + self._ahead)

    @property
    def is_idle(self) -> bool:
        """True if no shot is dreamed."""
        return not any(shot.workers for shot in self._shots)

    def search(self, number: int, *, begins: bool) -> None:
        """Note whether a shot begins with a frame, the next one that is searched."""
        self.searched = number + 1
        if not begins:
            return
        if self._shots and self._shots[-1].end is None:
            self._shots[-1].end = number
        shot = Shot(number)
        while shot.next in self._finished and shot.next < self._last:
            shot.next += 1
        self._shots.append(shot)

    def take(self, number: int) -> None:
        """Note that all frames before `number` have been taken."""
        self._taken = number

    def goes_on(self, shot: Shot, number: int) -> bool:
        """Return whether a shot that is dreamed goes on with frame `number`, as far as is known."""
        return number < self.limit and not shot.gives_way and (shot.end is None or number < shot.end)

    def give_back(self, shot: Shot) -> None:
        """Take the workers of a shot, which is over if its end is reached."""
        shot.workers, shot.gives_way = 0, False
        if self._left(shot) <= 0:
            self._shots.remove(shot)

    def start(self, size: int) -> list[Shot]:
        """Give workers to the shots that start now, return these, and have others give way if need be.

        Args:
            size: Workers of the farm.
        """
        size = max(1, size)
        wanted = [shot for shot in self._shots if shot.workers or self._may_start(shot)]
        shares = divided(size, len(wanted), self._most_workers)
        shares += [0] * (len(wanted) - len(shares))
        idle = size - sum(shot.workers for shot in wanted)
        started = []
        for shot, share in zip(wanted, shares, strict=True):
            if not shot.workers and 0 < share <= idle:
                idle -= share
                shot.workers = share
                started.append(shot)
        for shot, share in zip(wanted, shares, strict=True):
            shot.gives_way = shot.workers > share or (0 < shot.workers < share and idle > 0)
        return started

    def _may_start(self, shot: Shot) -> bool:
        """Return whether a shot may start: up to its end, or far enough for its workers to be worth a change."""
        left = self._left(shot)
        room = self._taken + self._ahead - shot.next
        return left > 0 and shot.next < self.searched and min(left, max(1, self._ahead // _ROOM_SHARE)) <= room

    def _left(self, shot: Shot) -> int:
        """Return the frames of a shot that are not dreamed, as far as its end is known."""
        return min(self._last, self._last if shot.end is None else shot.end) - shot.next


def divided(workers: int, shots: int, most: int) -> list[int]:
    """Return the workers of each shot, the earliest first; shots beyond the number of workers are left out.

    Args:
        workers: Number of workers, at least 1.
        shots: Number of shots.
        most: Most workers that a shot can use.
    """
    count = min(workers, shots)
    return [min(most, workers // count + (number < workers % count)) for number in range(count)]
