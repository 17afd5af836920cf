"""Panels and PDF pages of a job's print."""

from __future__ import annotations

from collections.abc import Sequence

from render.config.schema import Config
from render.export.panels import Panels, cut_panels
from render.export.pdf_sheets import Sheet, lay_out_sheets
from render.job.targets import Target


def cut_for(config: Config, shape: tuple[int, int]) -> Panels:
    """Return the panels of a print of `shape` (rows, columns) px, bleed included.

    Raises:
        UserError: The print cannot be cut so.
    """
    panels = config.output.panels
    return cut_panels(
        shape, config.output.dpi, width_cm=panels.width_cm, height_cm=panels.height_cm, overlap_mm=panels.overlap_mm
    )


def pages_for(config: Config, shape: tuple[int, int], bleed_px: int | None) -> tuple[Sheet, ...]:
    """Return the pages of a print in PDF: one, or one for each panel.

    Args:
        config: The job's config.
        shape: (rows, columns) px of the print, bleed included.
        bleed_px: Bleed on every side, px; None if the canvas has none.

    Raises:
        UserError: The print cannot be cut so, or a page is larger than PDF allows.
    """
    panels = config.output.panels
    is_cut = panels.width_cm is not None or panels.height_cm is not None
    return lay_out_sheets(shape, config.output, bleed_px, cut_for(config, shape) if is_cut else None)


def refuse_pages(targets: Sequence[Target], config: Config, shape: tuple[int, int], bleed_px: int | None) -> None:
    """Raise `UserError` if a print of `shape` (rows, columns) px cannot be cut into panels, or has no page in PDF."""
    if any(target.panels for target in targets):
        cut_for(config, shape)
    if any(target.form == "pdf" for target in targets):
        pages_for(config, shape, bleed_px)
