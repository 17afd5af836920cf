"""Interface of a film that is checked but not begun, and of the surroundings in which its frames are made.

A kind of film (a value of `film.of`) is a function that drafts it: see `render.film.makers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from render.config.schema import Config
from render.farm.conductor import Conductor
from render.farm.events import Event
from render.farm.farms import Farm
from render.film.film_dreams import FilmDreams
from render.film.frame_maker import FrameMaker
from render.networks.weights import Loaded
from render.storage.url import Place

#: Receiver of what happens within a frame: its number, the event, and the conductor of the frame's dream.
OnEvent = Callable[[int, Event, Conductor], None]


def _ignore_event(_frame: int, _event: Event, _conductor: Conductor) -> None:
    """Show nothing of what happens within a frame."""


@dataclass(frozen=True)
class FilmSurroundings:
    """Places and receivers that a film's directory has for the maker of its frames.

    Attributes:
        place: Directory of the film: absolute, or a URL. It is held by this process while frames are made. A maker may keep
            what it needs below it, in directories of its own: `canvases`, `levels`, `source`.
        digest: Digest of the film, a sha256 in hex. Two films of one digest have the same frames, as far as both go.
        begun: Time of `time.perf_counter` when the job began, s.
        confirm: Raises if another process has taken the film over; to be called before what is on disk is replaced.
        on_event: Receiver of what happens within a frame, for progress; from any thread, one call at a time.
        tell: Called with a line that the user should know of.
        farm: Farm to lease workers from; None: a maker that dreams opens one.
        on_ahead: Called, from any thread, with the number of frames that are made before their turn and wait for it.
        loaded: The film's weights, if a farm is given and they are loaded already.
    """

    place: Place
    digest: str
    begun: float
    confirm: Callable[[], None] = lambda: None
    on_event: OnEvent = _ignore_event
    tell: Callable[[str], None] = lambda _line: None
    farm: Farm | None = None
    on_ahead: Callable[[int], None] = lambda _count: None
    loaded: Loaded | None = None


@dataclass(frozen=True)
class FrameTimes:
    """Times of a film's frames, where they are not equally spaced.

    Attributes:
        times: Time of every frame, in units of `unit`, ascending.
        unit: Unit of the times, s.
        end: Time at which the last frame ends, in units of `unit`.
    """

    times: Sequence[int]
    unit: Fraction
    end: int


@dataclass(frozen=True)
class FilmNeeds:
    """Needs of a film, for its plan.

    Attributes:
        memory_bytes: Memory of all processes.
        canvas_bytes: Disk for the newest frames' canvases and other files of the maker.
        first_flops: Work of the first frame, floating-point operations of its kernels; 0 without dreaming.
        later_flops: The same of each later frame.
        dreams: What is dreamed; None without dreaming.
        lines: Further lines for people, each a name and a text.
    """

    memory_bytes: int
    canvas_bytes: int
    first_flops: int = 0
    later_flops: int = 0
    dreams: FilmDreams | None = None
    lines: Sequence[tuple[str, str]] = ()


class FilmDraft(Protocol):
    """A film, checked: everything but the surroundings of its frames. Nothing has been started or written."""

    @property
    def config(self) -> Config:
        """Config that is recorded: that of the first frame, with the number of octaves instead of auto."""

    @property
    def identity(self) -> Mapping[str, str | None]:
        """Facts of files and the program that distinguish films with equal settings, such as the digest of footage."""

    @property
    def rate(self) -> Fraction:
        """Frames a second; the mean rate where `timing` says more."""

    @property
    def frames(self) -> int:
        """Number of frames of the film."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) px of every frame, both even."""

    @property
    def timing(self) -> FrameTimes | None:
        """Times of the frames; None if they follow each other at `rate`."""

    @property
    def aspect(self) -> Fraction:
        """Width of a pixel by its height."""

    @property
    def sound(self) -> Path | None:
        """File whose sound goes with the film; None for none."""

    def needs(self) -> FilmNeeds:
        """Return what making the frames needs; start nothing.

        Raises:
            UserError: The film cannot work on this machine.
        """

    def opened(self, surroundings: FilmSurroundings) -> AbstractContextManager[FrameMaker]:
        """Yield the maker of the frames, with its farm if it dreams.

        Ctrl-C: a maker calls `interrupts.check` (or waits by functions that do) often enough to stop within seconds, and
        lets KeyboardInterrupt pass with what it has on disk complete.
        """
