"""The conductor: takes the workers through octaves and steps, saves, and recovers. `Conductor` holds the loop."""

from render.farm.conductor.block_dealer import BlockOptions
from render.farm.conductor.conductor import Conductor
from render.farm.conductor.saver import Saving
from render.farm.conductor.traffic import bytes_exchanged, chunk_bytes_exchanged, filter_bytes_exchanged

__all__ = ["BlockOptions", "Conductor", "Saving", "bytes_exchanged", "chunk_bytes_exchanged", "filter_bytes_exchanged"]
