"""What page and sheets are told of a sweep's points."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from render.sweeps.axes import find_axes
from render.sweeps.board import Board, BoardPoint
from render.sweeps.drafting import Drafted
from render.sweeps.exhibit import exhibition
from render.sweeps.points import expand
from tests.sweeps.test_board import event


def test_what_an_earlier_command_made_still_says_how_long_it_took(tmp_path: Path) -> None:
    found = find_axes("preview", ["seed=1,2,3"])
    points = []
    for point in expand(found):
        assert point.config is not None
        name = f"points/{point.number}"
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (6, 4)).save(tmp_path / name / "preview.png")
        took = 0.0 if point.number else 32.5
        label = f"seed {point.number}"
        points.append(
            Drafted(point, label, point.config, name, name, True, took, (4, 6), 1.0, 0.1, 1, True, 0, frozenset())
        )
    board = Board([BoardPoint(one.point.number, one.label, 1.0, 0.1, one.directory) for one in points])
    told = [event("begun", 0), event("skipped", 0, 0), event("skipped", 0, 1), event("started", 1, 2)]
    for one in [*told, event("finished", 9, 2, seconds=8.0)]:
        board.apply(one)
    shown = exhibition(found, points, board, tmp_path, "make sweep").points
    assert [point.seconds for point in shown] == [32.5, 0.0, 8.0]
    assert [point.picture for point in shown] == [f"points/{number}/preview.png" for number in range(3)]
