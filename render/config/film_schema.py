"""Schema of the `film` section: a film's length, files, motion, and what dreams its frames."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from render.config.schema import Config, OctavesConfig

#: What a film can be made of: values of `film.of`.
FILM_KINDS = ("zoom", "footage", "flight", "steps")


@dataclass
class FlowConfig:
    """The `film.flow` section: dreams that are carried along the motion of footage.

    Attributes:
        carry: Share of the carried dream that a frame starts with, 0 to 1.
        tolerance: Largest disagreement of forward and backward flow, px of the frame, at which a dream is carried.
        cuts: True to find cuts, at which nothing is carried.
        scale: Side of the frames that the flow is measured on, as a share of the footage's, above 0, at most 1.
    """

    carry: float = 0.9
    tolerance: float = 1.5
    cuts: bool = True
    scale: float = 1.0


@dataclass
class FilmConfig:
    """The `film` section of a root config.

    Attributes:
        of: One of `FILM_KINDS`.
        seconds: Length, s; None is 10 for a zoom or flight, and all of footage or of a growth.
        rate: Frames a second: a number, or a fraction such as 30000/1001. None is that of the footage, else 24.
        format: Format of the file; None for that of the suffix of `output.path`, or else mp4.
        codec: Codec of the file; None for the usual one of the format.
        quality: Quality of the encoding, 1 to 100.
        bits: Bits of each channel of the frames: 8, or 10 where the codec has them (16 for frames in files of their own).
        zoom: Magnification in a second; 1 stands still, below 1 zooms out.
        pan: Shift in a second, to the right and down, as shares of the picture's width.
        turn: Rotation in a second, degrees, counterclockwise.
        centre: Point that stays where it is, as shares of width and height.
        edge: What comes in at the edges: `reflect`, or `noise` to be dreamed on.
        easing: Course of the motion between keyframes: `linear`, `in`, `out` or `in_out`.
        keyframes: Mappings with `at` (s) and the settings that hold from then on; settings between two are interpolated.
        loop: True to end where it began.
        octaves: Octaves and steps of every frame but the first.
        fade: Share of the source that each frame returns to, 0 to 1.
        hold: Strength with which the colours of the first frame are held, 0 to 1.
        run: Run directory or URL of the picture to fly over, or whose growth to show.
        tour: Points of a flight: mappings with `at` (s), `x`, `y`, `width` (shares of the canvas) and `turn` (degrees);
            empty for a tour of rich places.
        flow: Dreams that are carried along footage.
        sound: True to copy the sound of the footage.
        damaged: True to dream what can be read of damaged footage.
        pictures: `auto` to remove pictures of frames once an encoded part of a video holds them; `keep` to keep all.
        keep: Canvases of the newest frames that are kept.
        ahead_gb: Most disk for frames of later shots of footage, which several workers dream ahead, GB; 0 for none.
    """

    of: str = "zoom"
    seconds: float | None = None
    rate: Any = None
    format: str | None = None
    codec: str | None = None
    quality: int = 80
    bits: int = 8
    zoom: float = 1.25
    pan: list[float] = field(default_factory=lambda: [0.0, 0.0])
    turn: float = 0.0
    centre: list[float] = field(default_factory=lambda: [0.5, 0.5])
    edge: str = "reflect"
    easing: str = "linear"
    keyframes: list[Any] = field(default_factory=list)
    loop: bool = False
    octaves: OctavesConfig = field(default_factory=lambda: OctavesConfig(count=1, steps=2))
    fade: float = 0.1
    hold: float = 1.0
    run: str | None = None
    tour: list[Any] = field(default_factory=list)
    flow: FlowConfig = field(default_factory=FlowConfig)
    sound: bool = True
    damaged: bool = False
    pictures: str = "auto"
    keep: int = 2
    ahead_gb: float = 8.0


@dataclass
class FilmJob(Config):
    """Config of a job with a `film` section: the first frame is the picture of the job."""

    film: FilmConfig = field(default_factory=FilmConfig)

    def job(self) -> Config:
        """Return the config without the `film` section."""
        return Config(**{config_field.name: getattr(self, config_field.name) for config_field in fields(Config)})
