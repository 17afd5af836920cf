"""A worker's part in an octave change: its old block's detail, and its new block, on the host or on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from render.dreaming.resample import Pixels
from render.farm.pixel_sources import SourceOfPixels
from render.farm.worker import device_change, exchange
from render.farm.worker.block import BlockArrays
from render.farm.worker.resident_block import ResidencyRule, ResidentBlock
from render.geometry.blocks import Gathering
from render.geometry.geometry import BAND, Rect


class OctaveChange:
    """The detail of the octave before, if this worker owned a block, and what fills the new block with it."""

    def __init__(self, residency: ResidencyRule | None) -> None:
        self._residency = residency
        self._detail: device_change.Detail | None = None
        #: Fills a block on the device.
        self._maker: device_change.BlockMaker | None = None

    def forget(self) -> None:
        """Free the detail."""
        self._detail = self._maker = None

    def end(self, arrays: BlockArrays, source: SourceOfPixels) -> None:
        """Make the detail of a block with this source. The block is gone then."""
        if isinstance(arrays, ResidentBlock):
            self._detail = device_change.take_detail(arrays, source)
        else:
            arrays.forget_gradients()
            exchange.subtract_source(arrays, source)
            self._detail = device_change.HostDetail(arrays.block_pixels, arrays.block.pixels)

    def begin(self, arrays: BlockArrays, source: SourceOfPixels) -> int:
        """Fill a new block with its source, or reserve it for `add`. Return the most pixels of a strip for `add`."""
        self._maker = None
        if not isinstance(arrays, ResidentBlock):
            exchange.fill_with_source(arrays, source)
            return BAND
        if arrays.assignment.octave == 0:
            device_change.fill_with_source(arrays, source)
        else:
            assert self._residency is not None, "only a rule makes blocks resident"
            needed = device_change.change_bytes(arrays.block, self._detail)
            if isinstance(self._detail, device_change.DeviceDetail) and not self._residency.has_room(needed):
                self._detail = self._detail.on_host(arrays.assignment.directory)
            self._maker = device_change.BlockMaker(arrays, source)
        return device_change.strip_pixels(arrays.block)

    def read(self, rects: Sequence[Rect]) -> list[Pixels]:
        """Return copies of the detail in rectangles inside the block: float32, any sign."""
        assert self._detail is not None, "no octave has ended"
        detail = self._detail
        return [np.array(detail.part(rect)) for rect in rects]

    def add(
        self,
        arrays: BlockArrays,
        rect: Rect,
        shape: tuple[int, int],
        needed: Rect,
        gathering: Gathering,
        parts: Sequence[list[Pixels]],
    ) -> None:
        """Add the detail to a strip of the new block: see `Worker.add_detail`."""
        if self._maker is not None:
            self._maker.add_strip(rect, self._detail, shape, needed, gathering, parts)
            return
        own_parts = self.read([piece.source for piece in gathering.own]) if gathering.own else []
        exchange.add_detail(arrays, rect, exchange.gather_pixels(needed, gathering, own_parts, parts), needed, shape)
