"""Cost of an octave change: the source of the new octave, the resampled detail of the one before, and its own detail. Pure.

Measured, in seconds of one thread on a two-core cloud machine: what the host does. Assumed: what a device and its link do,
until one has been measured. Not counted: reading and writing checkpoints, and the first compilation of the programs.
"""

from __future__ import annotations

import math

from render.geometry.geometry import BAND, PIXEL_BYTES
from render.geometry.source_window import SourceWindow
from render.planning.plan import Octave

#: Seconds to resample a pixel on the host.
RESAMPLE = 21e-9
#: Seconds of the host for a tile of a change on a device: to cut the samples out, in threads, and to start the programs.
PREPARE_TILE, START_TILE = 0.4e-3, 0.7e-3
#: Seconds to copy a sample of the source into what is sent. A tile's share is part of `PREPARE_TILE` for small windows.
COPY = 3e-9
#: Rows of a tile, and its pixels: see `dreaming.device_resample`.
_TILE_ROWS = 1024
TILE_PX = _TILE_ROWS * 2048
#: Times that a change resamples on the host: detail and source at the octave's beginning, the source at its end.
_HOST_TIMES = 3
#: Times that a change on a device makes the source: at the octave's beginning and at its end.
_SOURCE_TIMES = 2
#: Threads for each accelerator's worker. Assumed: clouds have 4 cores or more for each.
THREADS = 4
#: Bytes a second from the host to a device, and seconds of a device for a pixel of a change. Assumed: unpinned memory over
#: PCIe 4; 140 bytes a pixel at 1 TB/s, and as long again for the 72 taps.
SENT_RATE, DEVICE = 8e9, 0.3e-9
#: Samples of the largest picture that is resampled from memory; a larger one is read at about the octave's size.
_MEMORY_SAMPLES = 32e6


def change_seconds(octave: Octave, block: int, *, resident: bool, accelerated: bool) -> float:
    """Return the seconds of an octave's change on the busiest worker.

    Args:
        octave: The octave.
        block: Pixels of the worker's block.
        resident: Whether the block is resident on its device.
        accelerated: Whether the worker has an accelerator, and so the cores that come with one.
    """
    threads = THREADS if accelerated else 1
    if not resident:
        return _HOST_TIMES * block * RESAMPLE / threads
    tiles = -(-block // TILE_PX)
    sent = _sent_samples(octave)
    if sent is None:
        resampled = min(max(1.0, _shrinkage(octave)) * block, max(4.0 * block, _MEMORY_SAMPLES))
        host, sent = resampled * RESAMPLE / threads, 1.0
    else:
        host = sent * block * COPY / threads
    tile = PREPARE_TILE / threads + START_TILE
    sending = sent * block * PIXEL_BYTES / SENT_RATE
    return _SOURCE_TIMES * (tiles * tile + host + sending) + block * DEVICE


def strip_count(block: tuple[int, int], *, resident: bool) -> int:
    """Return the number of strips in which a block of (rows, columns) px takes the detail, each by a call of the driver."""
    return -(-block[0] // _TILE_ROWS) if resident else -(-block[0] * block[1] // BAND)


def _scales(octave: Octave, window: SourceWindow) -> tuple[float, float]:
    """Return the source's pixels for each pixel of an octave along rows and columns."""
    return window.rows.extent / octave.shape[0], window.columns.extent / octave.shape[1]


def _shrinkage(octave: Octave) -> float:
    """Return the source's pixels for each pixel of an octave; 1 for noise."""
    return 1.0 if octave.source_window is None else math.prod(_scales(octave, octave.source_window))


def _sent_samples(octave: Octave) -> float | None:
    """Return the samples that are sent for a pixel; None if the source shrinks or is noise, and the host makes it."""
    if octave.source_window is None:
        return None
    scales = _scales(octave, octave.source_window)
    if max(scales) > 1:
        return None
    # Windows have a power of two times a tile's sides.
    return math.prod(2.0 ** math.ceil(math.log2(scale)) for scale in scales)
