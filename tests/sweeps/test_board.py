"""What a sweep's events add up to: where points stand, failures, pace and time left; the event log and progress.json."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.config.schema import Config
from render.job import progress_file
from render.job.progress import Display
from render.job.progress_file import Progress, ProgressFile, read_progress
from render.planning.plan import Plan
from render.sweeps.board import Board, BoardPoint, Counts
from render.sweeps.event_log import Event, EventLog, last_command, read_events
from tests.conftest import refusal
from tests.planning.test_plan import plan

BEGUN = 1_000_000.0


def points(*sizes: float) -> list[BoardPoint]:
    return [BoardPoint(number, f"point {number}", size, size / 2, f"points/{number}") for number, size in enumerate(sizes)]


def event(kind: str, time: float, point: int | None = None, **facts: object) -> Event:
    return Event(kind, BEGUN + time, point, facts)  # type: ignore[arg-type]


def board_of(sizes: Sequence[float], *events: Event) -> Board:
    board = Board(points(*sizes))
    for one in (event("begun", 0, pid=7), *events):
        board.apply(one)
    return board


def farm_events(sizes: Sequence[float], workers: int, *, each: float = 2.0, overhead: float = 0.0, skipped: int = 0):
    """What a farm tells that takes points in their order, `overhead` seconds and `each` for a megapixel; its end."""
    free = [5.0] * workers
    told = [event("skipped", 0, number) for number in range(skipped)]
    for number, size in list(enumerate(sizes))[skipped:]:
        worker = min(range(workers), key=free.__getitem__)
        told.append(event("started", free[worker], number, worker=f"worker {worker}", attempt=1))
        free[worker] += overhead + each * size
        told.append(event("finished", free[worker], number, seconds=overhead + each * size, megapixels=size))
    return sorted(told, key=lambda one: one.time), max(free)


def test_every_kind_of_event_moves_its_point() -> None:
    board = board_of([1.0] * 6)
    assert board.counts == Counts(waiting=6, running=0, done=0, failed=0, skipped=0)
    board.apply(event("skipped", 1, 0))
    for number in range(1, 5):
        board.apply(event("started", 1 + number, number, worker=f"pid {number}", attempt=1))
    assert board.counts == Counts(waiting=1, running=4, done=1, failed=0, skipped=1)
    board.apply(event("finished", 10, 1, seconds=8.0, megapixels=1.0))
    board.apply(event("failed", 11, 2, reason="no such layer"))
    board.apply(event("retried", 12, 3, reason="a worker was lost"))
    board.apply(event("interrupted", 13, 4))
    assert board.counts == Counts(waiting=3, running=0, done=2, failed=1, skipped=1)
    board.apply(event("started", 14, 3, worker="pid 9", attempt=2))
    standing = board.running[0]
    assert (standing.point.number, standing.worker, standing.attempt) == (3, "pid 9", 2)
    assert [(one.point.number, one.reason) for one in board.failures] == [(2, "no such layer")]
    assert board.counts.total == 6


def test_what_runs_when_a_command_ends_waits_for_the_next() -> None:
    board = board_of([1.0, 1.0], event("started", 1, 0), event("ended", 9, status="interrupted", seconds=9))
    assert (board.status, board.counts.waiting, board.counts.running) == ("interrupted", 2, 0)
    assert board.elapsed(BEGUN + 100) == 9
    assert board.left(BEGUN + 100) == 0


def test_events_of_points_that_are_not_on_the_board_do_nothing() -> None:
    board = board_of([1.0], event("started", 1, 5), event("failed", 2, 5, reason="x"))
    assert board.counts == Counts(waiting=1, running=0, done=0, failed=0, skipped=0)


@given(st.lists(st.tuples(st.sampled_from(["skipped", "started", "finished", "failed", "retried", "interrupted"]),
                          st.integers(0, 4), st.floats(0, 100)), max_size=40), st.booleans())  # fmt: skip
def test_any_order_of_events_leaves_every_point_somewhere(told: list, ends: bool) -> None:
    board = board_of([0.0, 1.0, 2.0, 0.5, 8.0])
    for kind, number, time in told:
        board.apply(event(kind, time, number))
    if ends:
        board.apply(event("ended", 100, status="finished"))
    now = BEGUN + 101
    left = board.left(now)
    assert board.counts.total == 5
    assert 0 <= board.share(now) <= 1
    assert board.rate(now) >= 0
    assert left is None or left >= 0
    done, to_do = board.megapixels(now)
    assert done >= 0 and to_do >= 0


@pytest.mark.parametrize("order", ["equal", "small first", "large first", "mixed"])
@pytest.mark.parametrize(("workers", "overhead", "skipped"), [(1, 0, 0), (4, 0, 0), (4, 6, 0), (4, 3, 30)])
def test_is_about_right_from_early_on(order: str, workers: int, overhead: float, skipped: int) -> None:
    sizes = [4.0] * 60 if order == "equal" else sorted(random.Random(1).choices([1.0, 3.0, 9.0], k=60))
    if order == "large first":
        sizes.reverse()
    if order == "mixed":
        random.Random(2).shuffle(sizes)
    told, end = farm_events(sizes, workers, overhead=overhead, skipped=skipped)
    board = board_of(sizes)
    finished = 0
    for one in told:
        board.apply(one)
        finished += one.kind == "finished"
        # With points of one size, nothing tells what of their time is overhead.
        if one.kind == "finished" and finished >= max(8, (60 - skipped) // (2 if overhead else 4)):
            left = board.left(one.time)
            truth = BEGUN + end - one.time
            assert left == pytest.approx(truth, rel=0.3, abs=25), (finished, one.time - BEGUN)
    assert finished == 60 - skipped


def test_nothing_is_promised_before_anything_tells() -> None:
    board = board_of([4.0] * 8)
    assert board.left(BEGUN + 1) is None
    board.apply(event("started", 1, 0))
    assert board.left(BEGUN + 30) is None
    assert board.rate(BEGUN + 30) == 0


def test_a_running_points_own_word_is_enough() -> None:
    board = board_of([4.0] * 4, event("started", 0, 0))
    board.heard(0, Progress(1, 2, 5, 10, share=0.5, worked=0.5, rate=0.2, left=10, time=BEGUN + 10))
    assert board.rate(BEGUN + 10) == pytest.approx(0.2)
    assert board.left(BEGUN + 10) == pytest.approx(70)
    assert board.share(BEGUN + 10) == pytest.approx(0.125)
    assert board.megapixels(BEGUN + 10) == pytest.approx((2, 14))


def test_the_time_left_goes_by_arithmetic_not_by_pixels() -> None:
    """A layer twice as deep takes longer for as many pixels."""
    board = Board([BoardPoint(n, f"p{n}", 1.0, 1.0 if n < 10 else 5.0, f"points/{n}") for n in range(20)])
    board.apply(event("begun", 0, pid=7))
    for number in range(10):
        board.apply(event("started", 2 * number, number))
        board.apply(event("finished", 2 * number + 2, number, seconds=2, megapixels=1.0))
    assert board.left(BEGUN + 20) == pytest.approx(100)
    assert board.share(BEGUN + 20) == pytest.approx(1 / 6)
    assert board.rate(BEGUN + 20) == pytest.approx(0.5)


def test_points_done_before_say_nothing_of_the_pace() -> None:
    told = [event("skipped", 0, number) for number in range(90)]
    board = board_of([1.0] * 100, *told, event("started", 1, 90), event("finished", 11, 90, seconds=10, megapixels=1.0))
    assert board.rate(BEGUN + 11) == pytest.approx(0.1)
    assert board.left(BEGUN + 11) == pytest.approx(90)


def test_what_a_run_that_was_taken_up_again_had_done_is_no_pace() -> None:
    board = board_of([10.0] * 2, event("started", 0, 0))
    board.heard(0, Progress(4, 4, 9, 10, share=0.9, worked=0.1, rate=0.1, left=10, time=BEGUN + 10))
    assert board.rate(BEGUN + 10) == pytest.approx(0.1)
    assert board.left(BEGUN + 10) == pytest.approx(110)


def test_the_last_point_takes_its_time_however_large_the_farm() -> None:
    told, _ = farm_events([1.0] * 16, 16, each=10)
    board = board_of([1.0] * 16 + [10.0], *told, event("started", 15, 16, attempt=1))
    assert board.left(BEGUN + 16) == pytest.approx(100, rel=0.1)


def test_an_hour_of_slowness_is_forgotten_in_half_an_hour() -> None:
    told = [event("started", 0, 0), event("finished", 3600, 0, seconds=3600, megapixels=1.0)]
    for number in range(1, 91):
        told += [event("started", 3580 + 20 * number, number), event("finished", 3600 + 20 * number, number)]
    board = board_of([1.0] * 181, *told)
    assert board.left(BEGUN + 5400) == pytest.approx(90 * 20, rel=0.05)


def test_points_of_unknown_size_are_counted() -> None:
    board = board_of([0.0] * 4, event("started", 0, 0), event("finished", 10, 0, seconds=10))
    assert board.left(BEGUN + 10) == pytest.approx(30)
    assert board.share(BEGUN + 10) == 0.25


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    told = [event("begun", 0, pid=7, points=2), event("started", 1, 0, worker="pid 1 on häuschen"), event("ended", 2)]
    log = EventLog(tmp_path / "events.jsonl")
    for one in told:
        log.append(one)
        assert (tmp_path / "events.jsonl").read_bytes().endswith(b"\n")
    log.close()
    assert read_events(tmp_path / "events.jsonl") == told


def test_half_a_line_of_a_killed_driver_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventLog(path).append(event("begun", 0))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-9])
    assert read_events(path) == [event("begun", 0)]
    EventLog(path).append(event("ended", 1))
    assert read_events(path) == [event("begun", 0), event("ended", 1)]


def test_lines_that_are_no_events_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [
        "",
        "[]",
        "3",
        '{"kind": "dreamt", "time": 1}',
        '{"kind": "ended"}',
        '{"kind": "ended", "time": 1, "facts": 3}',
    ]
    path.write_text("\n".join([*lines, '{"kind": "ended", "time": 1, "later": "a word"}', '{"kind": "en']))
    assert read_events(path) == [Event("ended", 1.0)]
    assert read_events(tmp_path / "nowhere.jsonl") == []


def test_names_of_files_that_no_encoding_has_come_through(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append(event("failed", 1, 0, reason="image=\udcff.jpg: there is no such file\nnor there"))
    assert read_events(tmp_path / "events.jsonl")[0].facts["reason"].startswith("image=\udcff.jpg")
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == 1


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")

    def tell(number: int) -> None:
        for time in range(50):
            log.append(event("started", time, number, worker="x" * 500))

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = read_events(tmp_path / "events.jsonl")
    assert len(told) == 400
    for number in range(8):
        assert [one.time - BEGUN for one in told if one.point == number] == list(range(50))


def test_a_full_disk_and_a_forbidden_place_are_told_in_a_line(tmp_path: Path) -> None:
    assert "events.jsonl cannot be written" in refusal(lambda: EventLog(tmp_path / "none" / "events.jsonl"))
    full = Path("/dev/full")
    if full.exists():
        assert "free some space" in refusal(lambda: EventLog(full).append(event("begun", 0)))


def test_a_command_is_what_stands_after_its_beginning() -> None:
    first, second = [event("begun", 0, pid=1), event("ended", 1)], [event("begun", 2, pid=2), event("skipped", 3, 0)]
    assert last_command([*first, *second]) == second
    assert last_command(first[1:]) == []


def write_sweep(directory: Path, pid: int = 7, **more: object) -> None:
    listed = [
        {"number": n, "at": [n], "label": f"p{n}", "directory": f"points/{n}", "megapixels": 1.0, "teraflops": 2.0}
        for n in range(3)
    ]
    (directory / "sweep.json").write_text(json.dumps({"status": "running", "pid": pid, "points": listed, **more}))


def test_only_the_last_commands_events_count(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    log = EventLog(tmp_path / "events.jsonl")
    old = [event("begun", 0, pid=5), event("started", 1, 2), event("failed", 2, 2, reason="x"), event("ended", 3)]
    for one in (*old, event("begun", 9, pid=7), event("skipped", 9, 0), event("started", 10, 1)):
        log.append(one)
    board = Board.of(tmp_path)
    assert board.counts == Counts(waiting=1, running=1, done=1, failed=0, skipped=1)
    assert [standing.point.directory for standing in board.standings.values()] == ["points/0", "points/1", "points/2"]


def test_a_command_that_has_not_begun_yet_is_not_the_one_before(tmp_path: Path) -> None:
    write_sweep(tmp_path, pid=8)
    log = EventLog(tmp_path / "events.jsonl")
    for one in (event("begun", 0, pid=5), event("started", 1, 2), event("failed", 2, 2, reason="x")):
        log.append(one)
    board = Board.of(tmp_path)
    assert (board.status, board.counts.waiting, board.counts.failed) == (None, 3, 0)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"status": "running"}', '{"status": "running", "points": [{}]}'])
def test_what_is_no_sweep_has_an_empty_board(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    assert Board.of(tmp_path).counts.total == 0


def tiny_plan() -> Plan:
    config = Config()
    config.output.width, config.octaves.count, config.octaves.steps = 400, 2, 4
    return plan(config)


def go_through(display: Display, made: Plan, octaves: int = 2) -> None:
    for octave in made.octaves[:octaves]:
        display.octave_started(octave, 0)
        for step in range(octave.steps):
            display.tiles_done(octave.grid.tiles)
            display.step_done(step)


def test_a_run_that_is_over_within_a_second_writes_nothing(tmp_path: Path) -> None:
    display = ProgressFile(tmp_path, tiny_plan())
    go_through(display, tiny_plan())
    assert list(tmp_path.iterdir()) == []


def test_it_says_where_the_run_stands_and_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_file, "_WRITE_EVERY_S", 0.0)
    made = tiny_plan()
    display = ProgressFile(tmp_path, made)
    go_through(display, made, octaves=1)
    coarse, fine = made.octaves
    found = read_progress(tmp_path)
    assert found is not None
    assert (found.octave, found.octaves, found.step, found.steps) == (1, 2, 4, 4)
    assert found.share == found.worked == pytest.approx(4 * coarse.step_flops / made.flops, abs=1e-4)
    display.octave_started(fine, 2)
    taken_up = read_progress(tmp_path)
    assert taken_up is not None
    assert (taken_up.octave, taken_up.step, taken_up.worked) == (2, 2, found.worked)
    assert taken_up.share > found.share
    display.close()
    assert list(tmp_path.iterdir()) == []


def test_it_is_written_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_file.time, "monotonic", lambda: now[0])
    display, octave = ProgressFile(tmp_path, tiny_plan()), tiny_plan().octaves[0]
    seen = set()
    for tenth in range(100):
        now[0] = 100 + tenth / 10
        display.octave_started(octave, 0)
        display.tiles_done(1)
        if (tmp_path / "progress.json").exists():
            seen.add((tmp_path / "progress.json").read_bytes())
    assert len(seen) == 9


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text("{}")
    ProgressFile(tmp_path, tiny_plan())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_gone_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_file, "_WRITE_EVERY_S", 0.0)
    display = ProgressFile(tmp_path / "gone", tiny_plan())
    go_through(display, tiny_plan())
    display.close()
    assert read_progress(tmp_path / "gone") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"octave": "1"}', "7"])
def test_what_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "progress.json").write_text(text)
    assert read_progress(tmp_path) is None
