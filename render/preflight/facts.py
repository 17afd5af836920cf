"""Facts of a picture file that is to be printed, as they were measured."""

from __future__ import annotations

from dataclasses import dataclass

from render.export.print_layout import PrintLayout
from render.geometry.units import CM_PER_INCH
from render.preflight.detail import Detail
from render.preflight.header import Header
from render.preflight.icc import IccFacts
from render.preflight.ink import Ink
from render.preflight.order import PrintOrder
from render.preflight.seams import Seams
from render.preflight.tones import Tones


@dataclass(frozen=True)
class Clipping:
    """Shares, 0..1, of pixels at the lowest and at the highest value of a channel."""

    channel: str
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """Measured facts of a file.

    `shape` is (rows, columns) px; `block_seams` are measured along block borders only.
    """

    file: str
    file_bytes: int
    header: Header
    shape: tuple[int, int]
    bits: int
    colour: str
    transparent: bool
    turned: bool
    profile: str | None
    has_profile: bool
    layout: PrintLayout
    clipped: tuple[Clipping, ...]
    seams: Seams | None
    block_seams: Seams | None
    seams_note: str | None
    #: Whether the settings have exact halos; None if they do not say.
    exact: bool | None = None
    #: Means other than an ICC profile by which the file states its colours; it may have a profile as well.
    space: str | None = None
    #: Number of channels that are neither colour nor transparency.
    extra_channels: int = 0
    icc: IccFacts | None = None
    #: None without CMYK pixels, and without a press' profile to convert others by.
    ink: Ink | None = None
    tones: Tones | None = None
    #: Resolution of what the pixels show; None if the picture is too small or too plain to tell.
    detail: Detail | None = None
    #: What was ordered; None for no order.
    order: PrintOrder | None = None

    @property
    def size_cm(self) -> tuple[float, float] | None:
        """(width, height) on paper in cm, bleed included; None if no dpi is stated."""
        if self.header.dpi is None:
            return None
        return self.shape[1] / self.header.dpi[0] * CM_PER_INCH, self.shape[0] / self.header.dpi[1] * CM_PER_INCH

    @property
    def dpi(self) -> float | None:
        """The smaller of the two resolutions, dpi; None if none is stated."""
        return None if self.header.dpi is None else min(self.header.dpi)
