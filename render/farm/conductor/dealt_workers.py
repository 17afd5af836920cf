"""Typed calls to the workers that own the blocks of one octave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, TypeVar

from render.dreaming.resample import Pixels
from render.farm.executors import Executor
from render.farm.remote import Arguments, Promise, Value, Workers
from render.geometry.blocks import Gathering
from render.geometry.geometry import Rect
from render.planning.deal import Deal

Result = TypeVar("Result")

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

    def start_together(
        self, method: Callable[[Any, Value], Result], arguments: Sequence[Value], /
    ) -> Sequence[Promise[Result]]:
        """Start a method on all workers, in which they wait for one another; each gets its own argument."""
        return self._executor.call_together(method.__name__, [(argument,) for argument in arguments])

    def poll(self, promises: Sequence[Promise[Result]], *, heard: bool) -> Sequence[Promise[Result]]:
        """Return the promises whose results are ready, without waiting: see `Executor.poll`."""
        return self._executor.poll(promises, heard=heard)

    def end_waiting(self, ready: Sequence[Promise[Result]]) -> None:
        """Have the workers that wait for a failed call fail, too: see `Executor.end_waiting`."""
        self._executor.end_waiting(ready)

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
