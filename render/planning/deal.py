"""Deal of an octave: the block of each worker, and the pixels that each lends to the others. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from render.geometry.blocks import Block, Gathering, deal_blocks, margin_pieces, pieces_of
from render.geometry.geometry import Rect
from render.planning.plan import Octave

#: Intended duration of one call to a worker, s, and the most tiles of a call.
_CALL_SECONDS, _MOST_TILES_A_CALL = 0.5, 64


def tiles_a_call(seconds: float) -> int:
    """Return the number of tiles for one call to a worker, if each takes `seconds`.

    It is large enough that the overhead of a call does not matter, and small enough that progress is visible.
    """
    return max(1, min(_MOST_TILES_A_CALL, int(_CALL_SECONDS / max(1e-9, seconds))))


@dataclass(frozen=True)
class Deal:
    """Blocks of one octave, the pieces of each block's margin, and the pixels that owners lend for the margins.

    `loans` is by owner and node. All that is lent to one node is one object, because many small objects would cost
    more than the pixels in them.
    """

    octave: Octave
    blocks: tuple[Block, ...]
    nodes: tuple[str, ...]
    margins: tuple[Gathering, ...]
    loans: tuple[dict[str, dict[int, list[Rect]]], ...]
    #: Pieces that the gradient's filter needs around each block; empty if there is no filter.
    filter_rings: tuple[Gathering, ...]

    @classmethod
    def of(cls, octave: Octave, workers: Sequence[str], arrangement: tuple[int, int] | None) -> Deal:
        """Deal an octave's tiles to workers, each given by its node."""
        blocks = deal_blocks(octave.grid, len(workers), arrangement)
        nodes = tuple(workers[: len(blocks)])
        margins = tuple(Gathering.of(margin_pieces(block, blocks), number) for number, block in enumerate(blocks))
        loans: tuple[dict[str, dict[int, list[Rect]]], ...] = tuple({} for _ in blocks)
        for borrower, margin in enumerate(margins):
            for owner, pieces in margin.others:
                loan = loans[owner].setdefault(nodes[borrower], {})
                loan[borrower] = [piece.source for piece in pieces]
        reach = octave.stage.conditioning.reach
        filter_rings = tuple(
            Gathering.of(
                (piece for piece in pieces_of(block.pixels.grown(reach), blocks) if piece.target != block.pixels), number
            )
            for number, block in enumerate(blocks if reach else ())
        )
        return cls(octave, blocks, nodes, margins, loans, filter_rings)

    def owners(self, rect: Rect) -> Iterator[tuple[int, Rect]]:
        """Yield each block that owns a part of a canvas rectangle, with that part."""
        for owner, block in enumerate(self.blocks):
            part = block.pixels.intersect(rect)
            if part.area:
                yield owner, part
