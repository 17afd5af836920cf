"""Content of page and sheets from a sweep's points."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from render.sweeps.axes.parsing import parse_sweep
from render.sweeps.axes.points import expand
from render.sweeps.gallery.exhibition_builder import build_exhibition
from render.sweeps.monitor.board import Board
from render.sweeps.monitor.sweep_record import RecordedPoint
from render.sweeps.rendering.drafting import DraftedPoint
from tests.sweeps.test_board import event


def test_what_an_earlier_command_made_still_says_how_long_it_took(tmp_path: Path) -> None:
    definition = parse_sweep("preview", ["seed=1,2,3"])
    points = []
    for point in expand(definition):
        assert point.config is not None
        name = f"points/{point.number}"
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (6, 4)).save(tmp_path / name / "preview.png")
        seconds = 0.0 if point.number else 32.5
        label = f"seed {point.number}"
        points.append(
            DraftedPoint(point, label, point.config, name, name, True, seconds, (4, 6), 1.0, 0.1, 1, True, 0, frozenset())
        )
    board = Board([RecordedPoint(point.point.number, point.label, 1.0, 0.1, point.directory) for point in points])
    events = [event("begun", 0), event("skipped", 0, 0), event("skipped", 0, 1), event("started", 1, 2)]
    for item in [*events, event("finished", 9, 2, seconds=8.0)]:
        board.apply(item)
    shown = build_exhibition(definition, points, board, tmp_path, "make sweep").points
    assert [point.seconds for point in shown] == [32.5, 0.0, 8.0]
    assert [point.picture for point in shown] == [f"points/{number}/preview.png" for number in range(3)]
