"""The picture whose colours a job's pictures take: `output.match`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from render.config.schema import MATCH_SOURCE, Config, SourceConfig
from render.errors import UserError
from render.export.colour_match import MAX_SIDE, ColourStatistics, measure_pixels, measured_shape
from render.geometry.geometry import whole
from render.job.recorded_source import reopen_source
from render.source.photo import read_small
from render.source.source import find_picture

_CHOICES = "source, a path or sample:NAME"


@dataclass(frozen=True)
class ColourReference:
    """Picture that gives its colours.

    Attributes:
        config: The job's config.
        sha256: Digest of the picture's file; None if it is the source.
        statistics: Statistics of the picture; None if it is the source, which is read when pictures are made.
        image_sha256: Digest of the source.
        fetches: Whether a source at a URL may be read.
    """

    config: Config
    sha256: str | None
    statistics: ColourStatistics | None
    image_sha256: str | None
    fetches: bool

    def measure(self, shape: tuple[int, int]) -> ColourStatistics:
        """Return the statistics for a canvas of (rows, columns) px; raise `UserError` if the source is gone."""
        if self.statistics is not None:
            return self.statistics
        small_shape = measured_shape(shape)
        with tempfile.TemporaryDirectory(prefix="render-match-") as levels:
            source = reopen_source(self.config, self.image_sha256, Path(levels), fetches=self.fetches)
            if source is None:
                raise UserError(
                    f"output.match=source: the image {self.config.image} is gone or has changed, or is not on this "
                    "machine: put it back, or name another picture"
                )
            source.prepare(small_shape)
            return measure_pixels(source.at(small_shape, whole(*small_shape)))


def open_reference(config: Config, image_sha256: str | None, *, recorded: bool = False) -> ColourReference | None:
    """Return the picture that `output.match` names; None if it names none.

    A file is read at once, so that a bad one is refused before anything is dreamed.

    Args:
        config: The job's config.
        image_sha256: Digest of the source.
        recorded: True if the config comes from a run's record, which may be of an untrusted person.

    Raises:
        UserError: the file cannot be read as a source could.
    """
    match = config.output.match
    if match is None:
        return None
    if match == MATCH_SOURCE:
        return ColourReference(config, None, None, image_sha256, not recorded)
    limit = min(config.source.max_megapixels, SourceConfig.max_megapixels) if recorded else config.source.max_megapixels
    try:
        path, sha256 = find_picture(match, _CHOICES)
        pixels = read_small(path, replace(config.source, max_megapixels=limit), MAX_SIDE * MAX_SIDE)
    except UserError as error:
        raise UserError(f"output.match: {error}") from None
    return ColourReference(config, sha256, measure_pixels(pixels), image_sha256, not recorded)
