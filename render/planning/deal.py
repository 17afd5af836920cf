"""Deal of an octave: the block of each worker, and the pixels that each lends to the others. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from render.geometry.blocks import Block, Gathering, cut_by_tiles, deal_blocks, margin_pieces, node_order, pieces_of
from render.geometry.geometry import Rect
from render.planning.plan import Octave

#: Intended time between two looks of a worker at what is asked of it, s, and the most tiles between them.
_CALL_SECONDS, _MOST_TILES_A_CALL = 0.5, 64

#: Most children of a worker in the tree of a farm's workers.
FAN_OUT = 16


def tiles_a_call(seconds: float) -> int:
    """Return the number of tiles that a worker computes before it looks for requests, if each takes `seconds`.

    It is large enough that a look does not matter, and small enough that progress is visible and a request is heard soon.
    """
    return max(1, min(_MOST_TILES_A_CALL, int(_CALL_SECONDS / max(1e-9, seconds))))


@dataclass(frozen=True)
class Deal:
    """Blocks of one octave, the pieces of each block's margin, and the pixels that owners lend to others.

    Attributes:
        octave: The octave.
        blocks: The block of each worker.
        margins: The pieces of each block's margin.
        rings: The pieces that the gradient's filter needs around each block; none if there is no filter.
    """

    octave: Octave
    blocks: tuple[Block, ...]
    margins: tuple[Gathering, ...]
    rings: tuple[Gathering, ...]

    @classmethod
    def of(cls, octave: Octave, nodes: Sequence[str], arrangement: tuple[int, int] | None) -> Deal:
        """Deal an octave's tiles to workers.

        Args:
            octave: The octave.
            nodes: Each worker's machine: those on one get blocks that lie close to each other.
            arrangement: Requested (rows, columns) of blocks: see `deal_blocks`.
        """
        blocks = _near_on_nodes(deal_blocks(octave.grid, len(nodes), arrangement), nodes)
        margins = tuple(_margin(number, blocks) for number in range(len(blocks)))
        reach = octave.stage.conditioning.reach
        rings = tuple(
            Gathering.of(
                (piece for piece in pieces_of(block.pixels.grown(reach), blocks) if piece.target != block.pixels)
                if reach
                else (),
                number,
            )
            for number, block in enumerate(blocks)
        )
        return cls(octave, blocks, margins, rings)

    @property
    def margin_loans(self) -> list[dict[int, list[Rect]]]:
        """For each owner, the rectangles that it lends for the margins of others, by the borrower's number."""
        return _loans(self.margins)

    @property
    def ring_loans(self) -> list[dict[int, list[Rect]]]:
        """For each owner, the rectangles that it lends for the rings of others, by the borrower's number."""
        return _loans(self.rings)

    @property
    def neighbours(self) -> list[frozenset[int]]:
        """For each worker, those with which it exchanges pixels in a step."""
        around: list[set[int]] = [set() for _ in self.blocks]
        for number, gathering in [*enumerate(self.margins), *enumerate(self.rings)]:
            for owner, _ in gathering.others:
                around[number].add(owner)
                around[owner].add(number)
        return [frozenset(numbers) for numbers in around]

    def owners(self, rect: Rect) -> Iterator[tuple[int, Rect]]:
        """Yield each block that owns a part of a canvas rectangle, with that part."""
        for owner, block in enumerate(self.blocks):
            part = block.pixels.intersect(rect)
            if part.area:
                yield owner, part


def _margin(number: int, blocks: tuple[Block, ...]) -> Gathering:
    """Return the pieces of a block's margin; those of others are cut and ordered by the tiles that need them."""
    pieces = margin_pieces(blocks[number], blocks)
    own = [piece for piece in pieces if piece.owner == number]
    foreign = [piece for piece in pieces if piece.owner != number]
    return Gathering.of([*own, *cut_by_tiles(blocks[number], foreign)], number)


def _near_on_nodes(blocks: tuple[Block, ...], nodes: Sequence[str]) -> tuple[Block, ...]:
    """Return the blocks by worker, so that those of a machine's workers lie close to each other."""
    counts = Counter(nodes[: len(blocks)])
    if len(counts) < 2:
        return blocks
    first_worker = {node: nodes.index(node) for node in counts}
    workers = sorted(range(len(blocks)), key=lambda worker: (first_worker[nodes[worker]], worker))
    order = node_order(blocks, max(counts.values()))
    by_worker = {worker: blocks[index] for worker, index in zip(workers, order, strict=True)}
    return tuple(by_worker[worker] for worker in range(len(blocks)))


def _loans(gatherings: Sequence[Gathering]) -> list[dict[int, list[Rect]]]:
    """Return what each owner lends for some gatherings, which are by borrower: rectangles by the borrower's number."""
    loans: list[dict[int, list[Rect]]] = [{} for _ in gatherings]
    for borrower, gathering in enumerate(gatherings):
        for owner, pieces in gathering.others:
            loans[owner][borrower] = [piece.source for piece in pieces]
    return loans
