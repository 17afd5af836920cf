"""Shots that are dreamed at once, each in a thread with workers of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from render.errors import NodeLost, UserError
from render.film.dreamed.canvases import FrameCanvas
from render.film.footage.shot_schedule import Shot, ShotSchedule
from render.system import interrupts

#: Time between two looks for Ctrl-C, s.
_POLL_S = 0.1


class Lane(Protocol):
    """Workers that dream the frames of a shot."""

    def dreamed(self, first: int, goes_on: Callable[[int], bool]) -> Iterator[tuple[int, FrameCanvas]]:
        """Yield numbers and canvases of frames: see `FootageFrames.dreamed`."""


class LaneStopped(Exception):
    """End of a lane in the middle of a frame, because the film stops."""


class ShotLanes:
    """Dreams the shots of a film, each in a lane, and has their canvases taken in order.

    A lane ends with its shot, or between two frames where its workers are needed elsewhere.
    """

    def __init__(
        self,
        schedule: ShotSchedule,
        finished: Mapping[int, FrameCanvas],
        open_lane: Callable[[int], AbstractContextManager[Lane]],
        size: Callable[[], int],
        begins_shot: Callable[[int], bool],
        note_ahead: Callable[[int], None],
    ) -> None:
        """Store the parts; `taken` starts the lanes.

        Args:
            schedule: Schedule of the shots, of which the first is known.
            finished: Canvases of frames that an earlier run dreamed.
            open_lane: Leases workers, and returns them ready to dream.
            size: Returns the number of the farm's workers.
            begins_shot: Returns whether a shot begins with a frame; may read the footage up to it.
            note_ahead: Called with the number of frames that are dreamed and not taken.
        """
        self._schedule, self._canvases = schedule, dict(finished)
        self._open_lane, self._size, self._begins_shot, self._note_ahead = open_lane, size, begins_shot, note_ahead
        #: Held while what follows, the schedule or the canvases are read or changed.
        self._changed = threading.Condition()
        self._stops = False
        #: Errors of lanes, and the one that ended the search for shots.
        self._errors: list[BaseException] = []
        self._search_error: UserError | None = None
        self._threads: list[threading.Thread] = []

    def taken(self, first: int, last: int) -> Iterator[FrameCanvas]:
        """Yield the canvases of the frames from `first` to before `last`, in order.

        Raises:
            UserError: A lane failed, and all frames before have been taken.
            KeyboardInterrupt: A signal has come.
        """
        with self._changed:
            self._note_ahead(len(self._canvases))
            self._start_lanes()
            self._start_thread(self._find_shots, first + 1, last)
        for number in range(first, last):
            with self._changed:
                while number not in self._canvases:
                    self._raise_error()
                    interrupts.check()
                    self._changed.wait(_POLL_S)
                canvas = self._canvases.pop(number)
                self._note_ahead(len(self._canvases))
            yield canvas
            with self._changed:
                self._schedule.take(number + 1)
                self._start_lanes()
                self._changed.notify_all()

    def check(self) -> None:
        """Raise `LaneStopped` if the film stops. After a signal a lane's workers stop by themselves, and save."""
        if self._stops and not interrupts.is_stop_requested():
            raise LaneStopped

    def stop(self) -> None:
        """Stop all lanes, and wait for their ends."""
        with self._changed:
            self._stops = True
            self._changed.notify_all()
        while any(thread.is_alive() for thread in self._threads):
            time.sleep(_POLL_S)

    def _find_shots(self, start: int, last: int) -> None:
        """Search the frames from `start` on for shots, no farther ahead than frames may be dreamed."""
        try:
            for number in range(start, last):
                with self._changed:
                    while number >= self._schedule.limit and not self._stops:
                        self._changed.wait()
                    if self._stops:
                        return
                begins = self._begins_shot(number)
                with self._changed:
                    self._schedule.search(number, begins=begins)
                    self._start_lanes()
        except KeyboardInterrupt:
            # Heard by the main thread, too.
            return
        except UserError as error:
            # Told once all frames before are dreamed.
            self._search_error = error
        except BaseException as error:
            self._fail(error)

    def _start_lanes(self) -> None:
        """Start the shots that are due, with the lock held."""
        if self._stops:
            return
        for shot in self._schedule.start(self._size()):
            self._start_thread(self._run_lane, shot, shot.workers)

    def _start_thread(self, run: Callable[..., None], *arguments: object) -> None:
        # Whoever asks twice to stop wants the process to end at once, and does not wait for these.
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        thread.start()

    def _run_lane(self, shot: Shot, workers: int) -> None:
        """Dream the frames of a shot."""
        try:
            with self._open_lane(workers) as lane:
                for number, canvas in lane.dreamed(shot.next, lambda following: self._goes_on(shot, following)):
                    with self._changed:
                        self._canvases[number] = canvas
                        shot.next = number + 1
                        self._note_ahead(len(self._canvases))
                        self._changed.notify_all()
        except LaneStopped:
            pass
        except BaseException as error:
            self._fail(error)
        finally:
            with self._changed:
                self._schedule.give_back(shot)
                self._start_lanes()

    def _goes_on(self, shot: Shot, number: int) -> bool:
        """Return whether a lane goes on with a frame."""
        with self._changed:
            if self._stops or not self._schedule.goes_on(shot, number):
                return False
            is_known = shot.end is not None or number < self._schedule.searched
        if not is_known and self._begins_shot(number):
            shot.end = number
            return False
        return True

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._errors.append(error)
            self._stops = True
            self._changed.notify_all()

    def _raise_error(self) -> None:
        """Raise a lane's error, with the lock held: that of Ray's end before others, which follow from it."""
        for error in sorted(self._errors, key=lambda error: not isinstance(error, NodeLost)):
            raise error
        if self._search_error is not None and self._schedule.is_idle:
            raise self._search_error
