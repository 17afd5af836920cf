"""Typed calls to the workers that own the blocks of one octave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate

from render.dreaming.resample import Pixels
from render.farm.executors import Executor
from render.farm.remote import Arguments, Promise, Value, Workers
from render.geometry.blocks import Gathering
from render.geometry.geometry import Rect
from render.planning.deal import Deal

#: Calls queued at each worker, so that it does not wait for the conductor.
_QUEUED_CALLS = 2
#: Tiles in a call that runs no kernel, or only its first half.
_TILES_PER_CALL = 16


class DealtWorkers(Workers):
    """The workers among whom an octave's tiles are dealt. Workers beyond the deal's blocks have none and are left out."""

    def __init__(self, executor: Executor, deal: Deal) -> None:
        super().__init__(executor)
        self.deal = deal

    @property
    def numbers(self) -> range:
        """Numbers of the workers."""
        return range(len(self.deal.blocks))

    def run_all(
        self,
        method: Callable[Concatenate[Any, Arguments], Value],
        /,
        *arguments: Arguments.args,
        **keywords: Arguments.kwargs,
    ) -> list[Value]:
        """Run a method on all workers at once, and return their results by number."""
        return self.run(self.numbers, method, *arguments, **keywords)

    def run_over_tiles(
        self,
        method: Callable[Concatenate[Any, int, int, Arguments], Sequence[Value]],
        /,
        *arguments: Arguments.args,
        **keywords: Arguments.kwargs,
    ) -> list[Value]:
        """Run a method over all tiles, a few in each call, and return the results of all tiles in any order.

        Its first two arguments are the first tile and the number of tiles of the call. Short calls make workers answer
        often.
        """
        promises = [
            self.start(worker, method, first, _TILES_PER_CALL, *arguments, **keywords)
            for worker, block in enumerate(self.deal.blocks)
            for first in range(0, block.size, _TILES_PER_CALL)
        ]
        return [result for results in self.fetch(promises) for result in results]

    def run_queued(
        self,
        start_next: Callable[[int], Promise[Value] | None],
        note_result: Callable[[int, Value], None] = lambda _worker, _result: None,
    ) -> Iterator[list[Value]]:
        """Keep a few calls queued at every worker until there are no more, and yield results as they arrive.

        Args:
            start_next: Starts a worker's next call; returns None if it has none left.
            note_result: Called with a worker and the result of its call, before its next call starts.
        """
        running: dict[Promise[Value], int] = {}

        def hand_out(worker: int) -> None:
            promise = start_next(worker)
            if promise is not None:
                running[promise] = worker

        for _ in range(_QUEUED_CALLS):
            for worker in self.numbers:
                hand_out(worker)
        while running:
            ready = self.wait(running)
            results = self.fetch(ready)
            for promise, result in zip(ready, results, strict=True):
                worker = running.pop(promise)
                note_result(worker, result)
                hand_out(worker)
            yield results

    def request_pieces(
        self,
        gathering: Gathering,
        method: Callable[Concatenate[Any, Sequence[Rect], Arguments], list[Pixels]],
        /,
        *arguments: Arguments.args,
        **keywords: Arguments.kwargs,
    ) -> list[Promise[list[Pixels]]]:
        """Return promises of the pixels that a gathering needs from other workers, owner by owner.

        `method` reads the pixels; its first argument are the rectangles to read.
        """
        return [
            self.start(owner, method, [piece.source for piece in pieces], *arguments, **keywords)
            for owner, pieces in gathering.others
        ]
