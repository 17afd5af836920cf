"""Canvas and checkpoints on disk: canvas stores, slots that take turns, going on after a stop, and scratch files."""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from render.canvas import store
from render.canvas.store import CanvasStore
from render.config.compose import load_config
from render.dreaming.resample import Pixels
from render.dreaming.stage import Stage
from render.errors import DamagedCheckpoint, UrgentInterrupt, UserError, WorkersLost
from render.farm.checkpoint import Checkpoint, Checkpoints, OctaveHistory
from render.farm.events import Event, OctaveStarted, Recovered, Saved
from render.farm.farms import InlineFarm
from render.farm.messages import Assignment
from render.farm.worker import scratch
from render.farm.worker.worker import Worker
from render.geometry.blocks import Block, Gathering, chunk_extent, deal_blocks, margin_pieces, pieces_of
from render.geometry.geometry import Axis, Grid, Interval, Rect, whole
from render.job import job as jobs
from render.system.machine import cores
from tests.conftest import ROOT
from tests.support.dream_in_process import (
    FIXED,
    SMALL,
    Dream,
    LateExecutor,
    Stop,
    chunks_of,
    watched,
)


def noise(shape: tuple[int, int], seed: int) -> Pixels:
    return np.random.default_rng(seed).uniform(0, 255, (*shape, 3)).astype(np.float32)


def written(path: Path, canvas: Pixels, token: str = "token") -> CanvasStore:
    shape = (canvas.shape[0], canvas.shape[1])
    store.create(path, shape, token)
    opened = CanvasStore(path, token, mode="r+")
    opened.write(whole(*shape), canvas)
    opened.flush([whole(*shape)])
    return CanvasStore(path, token)


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    """A real file system with hardly any room."""
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(directory)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def free(directory: Path) -> int:
    return shutil.disk_usage(directory).free


# The store


@pytest.mark.parametrize("shape", [(1, 1), (37, 1), (511, 513), (512, 512), (700, 1030)])
def test_a_canvas_comes_back_bit_by_bit(shape: tuple[int, int], tmp_path: Path) -> None:
    canvas = noise(shape, 0)
    opened = written(tmp_path / "a", canvas)
    assert opened.shape == shape
    everything = opened.read(whole(*shape))
    assert everything.dtype == np.float32
    np.testing.assert_array_equal(everything, canvas)
    rng = np.random.default_rng(1)
    for _ in range(10):
        (top, bottom), (left, right) = (sorted(rng.choice(side + 1, 2, replace=False)) for side in shape)
        part = Rect(Interval(int(top), int(bottom)), Interval(int(left), int(right)))
        np.testing.assert_array_equal(opened.read(part), canvas[top:bottom, left:right])


@pytest.mark.parametrize("value", [0.0, -0.0, 255.0, 1e-42])
def test_a_flat_canvas_is_written_like_any_other(value: float, tmp_path: Path) -> None:
    """Chunks of one value are easily taken for chunks that need not be stored."""
    canvas = np.full((600, 20, 3), value, np.float32)
    opened = written(tmp_path / "a", canvas)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("0") if path.is_file()) == [
        "a/c/0/0/0", "a/c/1/0/0",
    ]  # fmt: skip
    assert opened.read(whole(600, 20)).tobytes() == canvas.tobytes()


def test_any_zarr_reader_finds_the_canvas(tmp_path: Path) -> None:
    canvas = noise((530, 40), 0)
    written(tmp_path / "a", canvas, "a token")
    array = zarr.open_array(str(tmp_path / "a"), mode="r")
    assert (array.shape, array.dtype, array.chunks) == ((530, 40, 3), np.float32, (512, 512, 3))
    assert array.metadata.dimension_names == ("row", "column", "channel")
    assert dict(array.attrs) == {"token": "a token"}
    np.testing.assert_array_equal(array[...], canvas)


def test_whoever_starts_does_not_wait_for_the_store_to_be_imported() -> None:
    """A worker's process imports it, and what resamples, while its kernel compiles."""
    imports = "import sys, render.farm.worker.process, render.job.job"
    words = f"{imports}; print({{'zarr', 'scipy.sparse', 'h5py'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\n", "")


# Several workers


@dataclass(frozen=True)
class Still:
    """A source that is one array at its own size."""

    pixels: Pixels

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        assert shape == self.pixels.shape[:2]
        return self.pixels[slice(*rect.rows), slice(*rect.columns)]


def no_kernel(*_: Any) -> Pixels:
    raise AssertionError("nothing is dreamed here")


def workers_of(blocks: tuple[Block, ...], source: Still, path: Path | None = None) -> list[Worker]:
    """Workers that hold their block of the source, or of a stored canvas."""
    workers = [Worker(no_kernel, source) for _ in blocks]
    for number, (worker, block) in enumerate(zip(workers, blocks, strict=True)):
        given = Assignment(number, 0, block, Gathering.of(margin_pieces(block, blocks), number), {}, Stage(1, 1.0), ())
        if path is None:
            worker.begin_octave(given)
        else:
            worker.load(path, "token", (), given)
    return workers


def save(workers: Sequence[Worker], blocks: tuple[Block, ...], path: Path, token: str = "token") -> None:
    """Every worker writes its chunks, at the same time as the others do, with what those hold of them."""
    with ThreadPoolExecutor(zarr.config.get("async.concurrency")) as pool:
        futures = []
        for number, block in enumerate(blocks):
            extent = chunk_extent(block.pixels, block.grid.canvas, store.CHUNK)
            if extent.area:
                gathering = Gathering.of(pieces_of(extent, blocks), number)
                parts = [workers[owner].read([piece.source for piece in pieces]) for owner, pieces in gathering.others]
                futures.append(pool.submit(workers[number].save, path, token, "canvas", extent, gathering, *parts))
        for future in futures:
            future.result()


def grid_of(shape: tuple[int, int], tile: tuple[int, int]) -> Grid:
    rows, columns = (
        Axis(length, side, halo=16, fill=32, stride=16, mode="reflect") for length, side in zip(shape, tile, strict=True)
    )
    return Grid(rows, columns)


def check_saving(shape: tuple[int, int], tile: tuple[int, int], workers: int, loaders: int) -> None:
    canvas, grid = noise(shape, 0), grid_of(shape, tile)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a"
        store.create(path, shape, "token")
        blocks = deal_blocks(grid, workers)
        save(workers_of(blocks, Still(canvas)), blocks, path)
        assert CanvasStore(path, "token").read(whole(*shape)).tobytes() == canvas.tobytes()
        # As many others take it up again.
        blocks = deal_blocks(grid, loaders)
        for worker, block in zip(workers_of(blocks, Still(0 * canvas), path), blocks, strict=True):
            (pixels,) = worker.read([block.pixels])
            np.testing.assert_array_equal(pixels, canvas[slice(*block.pixels.rows), slice(*block.pixels.columns)])


sides = st.integers(1, 90)
tiles = st.integers(5, 70)


@settings(max_examples=40)
@given(st.tuples(sides, sides), st.tuples(tiles, tiles), st.integers(1, 20), st.integers(1, 6))
@example((80, 80), (5, 5), 20, 1)
@example((33, 16), (16, 16), 3, 2)
def test_however_it_is_dealt_workers_store_the_whole_canvas(
    shape: tuple[int, int], tile: tuple[int, int], workers: int, loaders: int
) -> None:
    with chunks_of(16):
        check_saving(shape, tile, workers, loaders)


@pytest.mark.parametrize(
    ("shape", "workers"),
    # The last two are written in strips: of rows, and of parts of rows.
    [((1100, 1301), 3), ((520, 1030), 5), ((1537, 2100), 1), ((600, 4200), 1)],
)
def test_workers_store_a_canvas_of_many_chunks(shape: tuple[int, int], workers: int) -> None:
    check_saving(shape, (300, 270), workers, 2)


# Damage


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


SHAPE = (560, 530)
LAST_CHUNK = "c/1/1/0"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "a"
    written(path, noise(SHAPE, 0))
    return path


@pytest.fixture
def canvas_path(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "a"))


def cut(length: int) -> Callable[[Path], object]:
    return lambda path: os.truncate(path, length)


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def replaced_by_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        *((LAST_CHUNK, cut(length), "damaged chunk") for length in (0, 1, 4, 5, 1000, 512 * 512 * 12, 512 * 512 * 12 + 3)),
        (LAST_CHUNK, lambda path: path.write_bytes(bytes(4)), "damaged chunk"),
        (LAST_CHUNK, lambda path: path.write_bytes(bytes(512 * 512 * 12 + 4)), "damaged chunk"),
        (LAST_CHUNK, grown, "damaged chunk"),
        (LAST_CHUNK, Path.unlink, "lacks a chunk"),
        (LAST_CHUNK, replaced_by_a_directory, "lacks a chunk"),
        ("c", shutil.rmtree, "lacks a chunk"),
        ("zarr.json", Path.unlink, "no canvas store"),
        ("zarr.json", replaced_by_a_directory, "no canvas store"),
        *(("zarr.json", cut(length), "no canvas store") for length in (0, 1, 200, 700)),
        *(
            ("zarr.json", lambda path, text=text: path.write_text(text), "no canvas store")
            for text in ("null", "[]", "{}", "3", "\0", '{"zarr_format": 3, "node_type": "group"}', "[" * 100_000)
        ),
        (".", shutil.rmtree, "no canvas store"),
    ],
)
def test_a_damaged_canvas_is_refused(name: str, damage: Callable[[Path], object], words: str, canvas_path: Path) -> None:
    damage(canvas_path / name)
    with pytest.raises(DamagedCheckpoint, match=words) as raised:
        CanvasStore(canvas_path, "token").read(whole(*SHAPE))
    assert str(canvas_path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("place", np.linspace(0, 8 * (512 * 512 * 12 + 4) - 1, 20).astype(int).tolist())
def test_no_bit_of_a_chunk_may_flip(place: int, canvas_path: Path) -> None:
    """Pixels, checksum, and what lies beyond the canvas' end."""
    chunk = canvas_path / LAST_CHUNK
    chunk.write_bytes(flipped(chunk.read_bytes(), place))
    opened = CanvasStore(canvas_path, "token")
    with pytest.raises(DamagedCheckpoint, match="damaged chunk"):
        opened.read(Rect(Interval(512, 513), Interval(512, 513)))
    opened.read(whole(512, 512))


def test_no_bit_of_the_metadata_changes_pixels(tmp_path: Path) -> None:
    canvas = noise((20, 30), 0)
    with chunks_of(16):
        written(tmp_path / "a", canvas)
    metadata = tmp_path / "a" / "zarr.json"
    content = metadata.read_bytes()
    shape = b"".join(content.split(b"\n")[:6])
    assert b"3" in shape
    damaged = 0
    # Every bit of the shape, where a flip leaves a valid number, and some of all others.
    for bit in [*range(8 * len(shape)), *range(8 * len(shape), 8 * len(content), 11)]:
        metadata.write_bytes(flipped(content, bit))
        try:
            pixels = CanvasStore(tmp_path / "a", "token").read(whole(20, 30))
        except DamagedCheckpoint:
            damaged += 1
        else:
            assert pixels.dtype == np.float32
            np.testing.assert_array_equal(pixels, canvas)
    assert damaged > 300


def test_another_canvas_than_was_named_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "a", noise((20, 30), 0), "token")
    with pytest.raises(DamagedCheckpoint, match="another canvas"):
        CanvasStore(tmp_path / "a", "another")
    opened = CanvasStore(tmp_path / "a", "token")
    for rect in (whole(21, 30), whole(20, 31), Rect(Interval(-1, 3), Interval(0, 3))):
        with pytest.raises(DamagedCheckpoint, match="30 x 20 px and lacks"):
            opened.read(rect)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 4)])
def test_an_array_that_is_no_canvas_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    """One channel would spread over all three."""
    array = zarr.create_array(str(tmp_path / "a"), shape=shape, dtype="float32", attributes={"token": "token"})
    array[...] = 1
    with pytest.raises(DamagedCheckpoint, match="no canvas"):
        CanvasStore(tmp_path / "a", "token")


def test_a_worker_writes_to_no_other_canvas(tmp_path: Path) -> None:
    canvas = noise((40, 40), 0)
    before = written(tmp_path / "a", canvas, "theirs").read(whole(40, 40))
    blocks = deal_blocks(grid_of((40, 40), (40, 40)), 1)
    with pytest.raises(DamagedCheckpoint, match="another canvas"):
        save(workers_of(blocks, Still(0 * canvas)), blocks, tmp_path / "a", "mine")
    np.testing.assert_array_equal(CanvasStore(tmp_path / "a", "theirs").read(whole(40, 40)), before)


# Checkpoints


MOMENTS = ("moment-1", "moment-2")


def moment(shape: tuple[int, int], number: int, part: str) -> Pixels:
    """Any finite numbers, the largest and the smallest of both signs among them."""
    rng = np.random.default_rng([number, *part.encode()])
    values = rng.integers(0, 1 << 32, (*shape, 3), dtype=np.uint32).view(np.float32)
    return np.where(np.isfinite(values), values, np.float32(0))


def save_number(
    checkpoints: Checkpoints,
    number: int,
    shape: tuple[int, int] = (30, 30),
    tile: tuple[int, int] = (14, 40),
    parts: Sequence[str] = (),
) -> Checkpoint:
    """Saves a canvas and parts that its number decides, by two workers, in the conductor's order."""
    blocks = deal_blocks(grid_of(shape, tile), 2)
    checkpoint = checkpoints.begin(shape, 0, number, [OctaveHistory(*shape, (0.1 * number,), (1.0,))], parts)
    contents = {"canvas": noise(shape, number), **{part: moment(shape, number, part) for part in parts}}
    for part, content in contents.items():
        save(workers_of(blocks, Still(content)), blocks, checkpoints.path(checkpoint, part), checkpoint.token)
    checkpoints.commit(FIXED, checkpoint)
    return checkpoint


def canvas_of(checkpoints: Checkpoints, checkpoint: Checkpoint, part: str = "canvas") -> Pixels:
    opened = CanvasStore(checkpoints.path(checkpoint, part), checkpoint.token)
    return opened.read(whole(*opened.shape))


def numbers(checkpoints: Checkpoints) -> list[int]:
    """The numbers of the canvases that count, newest first; each is whole and as it was saved, with all its parts."""
    read = checkpoints.read()
    if read is None:
        return []
    assert read[0] == FIXED
    for checkpoint in read[1]:
        canvas = canvas_of(checkpoints, checkpoint)
        height, width = canvas.shape[:2]
        np.testing.assert_array_equal(canvas, noise((height, width), checkpoint.steps))
        for part in checkpoint.parts:
            found = canvas_of(checkpoints, checkpoint, part)
            assert found.tobytes() == moment((height, width), checkpoint.steps, part).tobytes()
        checkpoints.check(checkpoint, (height, width))
        assert checkpoint.history == (OctaveHistory(height, width, (0.1 * checkpoint.steps,), (1.0,)),)
    return [checkpoint.steps for checkpoint in read[1]]


def content_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Iterator[Checkpoints]:
    with chunks_of(16):
        yield Checkpoints(tmp_path / "canvas")


def test_two_slots_take_turns(checkpoints: Checkpoints, tmp_path: Path) -> None:
    assert checkpoints.read() is None
    slots = []
    for number in range(1, 6):
        slots.append(save_number(checkpoints, number))
        assert numbers(checkpoints) == [number, number - 1][: min(number, 2)]
    assert [one.slot for one in slots] == [f"{letter}-{one.token[:8]}" for letter, one in zip("ababa", slots, strict=True)]
    assert names(tmp_path) == ["a", "b", "manifest.json"]


def test_a_canvas_lies_where_it_always_lay_and_its_parts_beside_it(checkpoints: Checkpoints, tmp_path: Path) -> None:
    saved = save_number(checkpoints, 1, parts=MOMENTS)
    assert saved.parts == MOMENTS
    assert checkpoints.read()[1] == [saved]
    assert numbers(checkpoints) == [1]
    assert {part: checkpoints.path(saved, part) for part in ("canvas", *MOMENTS)} == {
        "canvas": tmp_path / "canvas" / saved.slot,
        "moment-1": tmp_path / "canvas" / f"{saved.slot}.moment-1",
        "moment-2": tmp_path / "canvas" / f"{saved.slot}.moment-2",
    }
    assert checkpoints.path(saved) == checkpoints.path(saved, "canvas")
    assert names(tmp_path) == ["a", "a.moment-1", "a.moment-2", "manifest.json"]


def names(tmp_path: Path) -> list[str]:
    """Of what lies there, without the tokens that slots have of their own."""
    return sorted(re.sub("^([ab])-[0-9a-f]{8}", r"\1", path.name) for path in (tmp_path / "canvas").iterdir())


def test_parts_go_with_their_slot(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """Begun anew it has those parts that were asked for this time, and no others."""
    for number, parts in enumerate((MOMENTS, MOMENTS[:1], (), ("other",)), 1):
        save_number(checkpoints, number, parts=parts)
        assert checkpoints.read()[1][0].parts == parts
        assert numbers(checkpoints)[0] == number
    assert names(tmp_path) == ["a", "b", "b.other", "manifest.json"]
    begun = checkpoints.begin((30, 30), 0, 9, [], MOMENTS)
    assert numbers(checkpoints) == [4]
    assert names(tmp_path) == ["a", "a.moment-1", "a.moment-2", "b", "b.other", "manifest.json"]
    checkpoints.abandon(begun)
    assert names(tmp_path) == ["b", "b.other", "manifest.json"]
    save_number(checkpoints, 5, parts=MOMENTS)
    assert numbers(checkpoints) == [5, 4]
    checkpoints.keep_newest()
    assert numbers(checkpoints) == [5]
    assert names(tmp_path) == ["a", "a.moment-1", "a.moment-2", "manifest.json"]
    checkpoints.discard()
    assert not (tmp_path / "canvas").exists()


def test_what_a_killed_run_left_beside_a_slot_is_cleared_away(checkpoints: Checkpoints, tmp_path: Path) -> None:
    save_number(checkpoints, 1)
    store.create(tmp_path / "canvas" / "b.moment-7", (40, 40), "left")
    save_number(checkpoints, 2)
    assert numbers(checkpoints) == [2, 1]
    assert names(tmp_path) == ["a", "b", "manifest.json"]


@pytest.mark.parametrize("parts", [("canvas",), ("m", "m"), ("",), ("../a",), ("a.b",), ("M",), ("a/b",)])
def test_a_part_has_a_plain_name_of_its_own(parts: tuple[str, ...], checkpoints: Checkpoints, tmp_path: Path) -> None:
    save_number(checkpoints, 1)
    with pytest.raises(ValueError, match="no names of parts"):
        checkpoints.begin((30, 30), 0, 2, [], parts)
    assert numbers(checkpoints) == [1]
    assert names(tmp_path) == ["a", "manifest.json"]


@pytest.mark.parametrize("part", ["canvas", *MOMENTS])
def test_a_damaged_part_is_damage(part: str, checkpoints: Checkpoints) -> None:
    saved = save_number(checkpoints, 1, parts=MOMENTS)
    checkpoints.check(saved, (30, 30))
    for damage in (spoil, lambda path: shutil.rmtree(path / "c" / "1"), shutil.rmtree):
        damage(checkpoints.path(saved, part))
        with pytest.raises(DamagedCheckpoint) as raised:
            checkpoints.check(saved, (30, 30))
        assert str(checkpoints.path(saved, part)) in str(raised.value)


def test_a_manifest_from_before_there_were_parts_is_read(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """Written by hand as it was written then."""
    saved = save_number(checkpoints, 1)
    fixed = {"digest": "digest", "weights_sha256": "weights", "tiles": [[96, 96], [96, 80]], "threads": 2}
    history = [{"height": 30, "width": 30, "mean_gradient": [0.1], "seconds": [1.0]}]
    one = {"slot": "a", "token": saved.token, "octave": 0, "steps": 1, "history": history, "saved": saved.saved}
    digest = hashlib.sha256(json.dumps([fixed, [one]], sort_keys=True).encode()).hexdigest()
    manifest = {"version": 1, "sha256": digest, "fixed": fixed, "checkpoints": [one]}
    (tmp_path / "canvas" / "manifest.json").write_text(json.dumps(manifest))
    checkpoints.path(saved).rename(tmp_path / "canvas" / "a")
    assert checkpoints.read() == (FIXED, [replace(saved, slot="a")])
    assert numbers(checkpoints) == [1]
    save_number(checkpoints, 2, parts=MOMENTS)
    assert numbers(checkpoints) == [2, 1]
    save_number(checkpoints, 3)
    assert numbers(checkpoints) == [3, 2]
    assert not (tmp_path / "canvas" / "a").exists()


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=1, max_size=12))
@example([3e38] * 6)
@example([3e38, 3e38, -3e38, -3e38, 3e38, 3e38, -3e38])
def test_any_finite_numbers_are_no_damage(values: list[float]) -> None:
    """Though their sum be infinite, or none."""
    canvas = np.resize(np.array(values, np.float32), (9, 7, 3))
    with tempfile.TemporaryDirectory() as directory, chunks_of(16):
        assert written(Path(directory) / "a", canvas).read(whole(9, 7)).tobytes() == canvas.tobytes()


def test_a_missing_chunk_among_the_largest_numbers_is_damage(tmp_path: Path) -> None:
    with chunks_of(16):
        opened = written(tmp_path / "a", np.full((30, 30, 3), 3e38, np.float32))
        (tmp_path / "a" / "c" / "1" / "1" / "0").unlink()
        with pytest.raises(DamagedCheckpoint, match="lacks a chunk"):
            opened.read(whole(30, 30))


def test_nothing_counts_before_it_is_committed(checkpoints: Checkpoints) -> None:
    begun = checkpoints.begin((30, 30), 0, 1, [])
    assert numbers(checkpoints) == []
    checkpoints.abandon(begun)
    assert not checkpoints.path(begun).exists()
    save_number(checkpoints, 1)
    save_number(checkpoints, 2)
    before = content_of(checkpoints.path(checkpoints.read()[1][0]))
    begun = checkpoints.begin((70, 70), 0, 3, [])
    # The slot that is being written to is not promised any more, the other is untouched.
    assert numbers(checkpoints) == [2]
    checkpoints.abandon(begun)
    assert numbers(checkpoints) == [2]
    assert content_of(checkpoints.path(checkpoints.read()[1][0])) == before
    assert save_number(checkpoints, 4).slot[0] == begun.slot[0]
    assert numbers(checkpoints) == [4, 2]


@pytest.mark.parametrize("newest", [2, 3])
def test_after_a_fallback_the_good_canvas_is_never_written_over(newest: int, checkpoints: Checkpoints) -> None:
    for number in range(1, newest + 1):
        save_number(checkpoints, number)
    damaged, good = checkpoints.read()[1]
    checkpoints.forget(damaged)
    assert numbers(checkpoints) == [newest - 1]
    before = content_of(checkpoints.path(good))
    begun = checkpoints.begin((30, 30), 0, 9, [])
    assert begun.slot[0] == damaged.slot[0]
    assert not checkpoints.path(damaged).exists()
    assert content_of(checkpoints.path(good)) == before
    assert numbers(checkpoints) == [newest - 1]
    checkpoints.abandon(begun)
    save_number(checkpoints, 10)
    assert numbers(checkpoints) == [10, newest - 1]
    assert content_of(checkpoints.path(good)) == before


def test_when_the_older_one_is_forgotten_the_newest_still_counts(checkpoints: Checkpoints) -> None:
    save_number(checkpoints, 1)
    newest, older = save_number(checkpoints, 2), checkpoints.read()[1][1]
    checkpoints.forget(older)
    assert numbers(checkpoints) == [2]
    checkpoints.forget(newest)
    assert numbers(checkpoints) == []
    # Nothing is left to keep, and that is no mistake.
    checkpoints.keep_newest()
    save_number(checkpoints, 3)
    assert numbers(checkpoints) == [3]


def test_a_finished_run_keeps_one_canvas(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.keep_newest()
    assert not (tmp_path / "canvas").exists()
    for number in (1, 2, 3):
        save_number(checkpoints, number)
    checkpoints.keep_newest()
    assert numbers(checkpoints) == [3]
    assert names(tmp_path) == ["a", "manifest.json"]
    checkpoints.keep_newest()
    assert numbers(checkpoints) == [3]


def test_discarding_leaves_nothing(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for number in (1, 2):
        save_number(checkpoints, number)
    checkpoints.discard()
    assert checkpoints.read() is None
    assert not (tmp_path / "canvas").exists()
    checkpoints.discard()


floats = st.floats(0, allow_infinity=False)
histories = st.lists(
    st.builds(
        OctaveHistory,
        st.integers(1, 1 << 20),
        st.integers(1, 1 << 20),
        st.lists(floats, max_size=5).map(tuple),
        st.lists(floats, max_size=5).map(tuple),
    ),
    max_size=4,
)


@given(histories, st.integers(0, 40), st.integers(0, 400), floats)
def test_history_comes_back_exactly(history: list[OctaveHistory], octave: int, steps: int, saved: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Checkpoint("a", "token", octave, steps, tuple(history), saved)
        Checkpoints(Path(directory)).commit(FIXED, checkpoint)
        assert Checkpoints(Path(directory)).read() == (FIXED, [checkpoint])


GARBAGE = (
    *(b"", b"{", b"null", b"3", b"[]", b"{}", b"\xff\xfe\0", b"[" * 100_000, b'{"version": 1}', b'{"version": 2}'),
    b'{"version": 1, "sha256": "", "fixed": {}, "checkpoints": []}',
)


@pytest.mark.parametrize("content", GARBAGE, ids=[str(number) for number in range(len(GARBAGE))])
def test_a_manifest_that_no_run_wrote_says_how_to_start_over(
    content: bytes, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    saved = save_number(checkpoints, 1)
    (tmp_path / "canvas" / "manifest.json").write_bytes(content)
    for attempt in (checkpoints.read, lambda: checkpoints.begin((9, 9), 0, 0, []), checkpoints.keep_newest):
        with pytest.raises(UserError, match="fresh=true") as raised:
            attempt()
        assert str(tmp_path / "canvas" / "manifest.json") in str(raised.value)
        assert "\n" not in str(raised.value)
    # What cannot be read is not cleared away unasked.
    assert (zarr.open_array(str(checkpoints.path(saved)), mode="r")[...] == noise((30, 30), 1)).all()


def test_a_changed_manifest_is_never_believed(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """A digit that changed is still a number: the run would go on from another step than its canvas was saved at."""
    save_number(checkpoints, 1)
    save_number(checkpoints, 12)
    believed, manifest = checkpoints.read(), tmp_path / "canvas" / "manifest.json"
    content = manifest.read_bytes()
    for bit in range(0, 8 * len(content), 5):
        manifest.write_bytes(flipped(content, bit))
        try:
            assert checkpoints.read() == believed
        except UserError as error:
            assert "fresh=true" in str(error)
    for length in range(0, len(content), 7):
        manifest.write_bytes(content[:length])
        with pytest.raises(UserError, match="fresh=true"):
            checkpoints.read()


def test_what_cannot_be_emptied_is_not_in_the_way(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """A slot has a name that nothing had before."""
    save_number(checkpoints, 1)
    (tmp_path / "elsewhere").mkdir()
    other = save_number(Checkpoints(tmp_path / "elsewhere"), 7)
    (tmp_path / "canvas" / "b").symlink_to(tmp_path / "elsewhere" / other.slot)
    save_number(checkpoints, 2)
    (tmp_path / "canvas" / "a").write_text("mine")
    save_number(checkpoints, 3)
    assert numbers(checkpoints) == [3, 2]
    assert (tmp_path / "canvas" / "a").read_text() == "mine"
    assert numbers(Checkpoints(tmp_path / "elsewhere")) == [7]


def test_who_was_cut_off_writes_to_what_nothing_names(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """A worker of a checkpoint that was given up goes on writing, while the slot of that letter is made anew and counts."""
    save_number(checkpoints, 1)
    begun = checkpoints.begin((30, 30), 0, 2, [])
    late = CanvasStore(checkpoints.path(begun), begun.token, mode="r+")
    late.write(Rect(Interval(0, 16), Interval(0, 30)), np.zeros((16, 30, 3), np.float32))
    saved = save_number(checkpoints, 2)
    assert saved.slot[0] == begun.slot[0]
    late.write(Rect(Interval(16, 30), Interval(0, 30)), np.zeros((14, 30, 3), np.float32))
    assert numbers(checkpoints) == [2, 1]
    assert names(tmp_path) == ["a", "b", "b", "manifest.json"]
    # What was written late goes with the next one.
    save_number(checkpoints, 3)
    assert numbers(checkpoints) == [3, 2]
    assert names(tmp_path) == ["a", "b", "manifest.json"]


def test_a_canvas_has_reached_the_disk_before_it_counts(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power may fail: files and the names of files are flushed, and only then the manifest names them."""
    flushed: dict[int, object] = {}
    fsync, move = os.fsync, Path.replace
    moved = []

    def state(path: Path) -> object:
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else path.stat().st_size

    def recording_fsync(descriptor: int) -> None:
        fsync(descriptor)
        flushed[os.fstat(descriptor).st_ino] = state(Path(f"/proc/self/fd/{descriptor}").resolve())

    def checking_replace(self: Path, target: Path) -> Path:
        if Path(target).name == "manifest.json":
            moved.append(str(target))
            slot = json.loads(self.read_text())["checkpoints"][0]["slot"]
            arrays = [tmp_path / "canvas" / name for name in (slot, f"{slot}.moment-1", f"{slot}.moment-2")]
            for path in (self, *arrays, *(path for array in arrays for path in array.rglob("*"))):
                assert flushed.get(path.stat().st_ino) == state(path), path
            flushed.pop((tmp_path / "canvas").stat().st_ino, None)
        return move(self, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(Path, "replace", checking_replace)
    for number in (1, 2, 3):
        save_number(checkpoints, number, parts=MOMENTS)
        for path in (tmp_path / "canvas", tmp_path):
            assert flushed[path.stat().st_ino] == state(path)
    # The third time, first of all the slot to be emptied is struck out.
    assert len(moved) == 4


# Kills


class Death:
    """Ends this process with SIGKILL at the n-th thing that it is about to do to the file system."""

    def __init__(self, moment: int, report: int) -> None:
        self._left = moment
        self._report = report
        self._manifests = 0
        os.fsync = lambda _: self._step("os.fsync", ())
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") or (event == "open" and arguments[2] & writing):
            self._step(event, arguments)

    def _step(self, event: str, arguments: tuple[Any, ...]) -> None:
        words = " ".join([str(self._manifests), event, *map(str, arguments)])
        self._left -= 1
        if self._left < 0:
            os.write(self._report, words.encode())
            os.kill(os.getpid(), signal.SIGKILL)
        self._manifests += event == "os.rename" and "manifest.json" in words


def die_while_saving(prepared: Path, deaths: Path, *parts: str) -> None:
    """Saves a third canvas with its parts again and again, each time killed one moment later, until it succeeds; prints
    the moments: how often the manifest had been moved, and what was next.

    Run in a process of its own that has no threads, so that it may fork.
    """
    # One thing after the other, so that the n-th is the same each time.
    with chunks_of(16), zarr.config.set({"async.concurrency": 1}):
        for moment in range(10_000):
            directory = deaths / f"{moment:04}"
            shutil.copytree(prepared, directory)
            reader, writer = os.pipe()
            child = os.fork()
            if not child:
                Death(moment, writer)
                save_number(Checkpoints(directory), 3, parts=parts)
                os._exit(0)
            os.close(writer)
            _, status = os.waitpid(child, 0)
            with os.fdopen(reader) as last:
                print(last.read().replace(str(directory), ""))
            if os.WIFEXITED(status):
                assert os.WEXITSTATUS(status) == 0
                return
            assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(("saved", "parts"), [(0, ()), (2, ("moment-1",))])
def test_a_kill_at_any_moment_leaves_a_whole_canvas(
    saved: int, parts: tuple[str, ...], checkpoints: Checkpoints, tmp_path: Path
) -> None:
    """What the manifest names afterwards is as it was saved, whatever the process was about to write, move or remove."""
    (tmp_path / "canvas").mkdir()
    for number in range(1, saved + 1):
        save_number(checkpoints, number, parts=parts)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from tests.farm.test_checkpoint import die_while_saving;"
            "die_while_saving(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])",
            str(tmp_path / "canvas"),
            str(tmp_path / "deaths"),
            *parts,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    moments = done.stdout.removesuffix("\n").split("\n")
    assert moments[-1] == ""
    outcomes = []
    for directory in sorted((tmp_path / "deaths").iterdir()):
        left = Checkpoints(directory)
        outcomes.append(numbers(left))
        assert all(checkpoint.parts == parts for checkpoint in (left.read() or (FIXED, []))[1])
        # Some of them go on.
        if len(outcomes) % 4 == 0:
            save_number(left, 4, parts=parts)
            assert numbers(left) == [4, *outcomes[-1][:1]]
    assert len(outcomes) == len(moments)
    # Until the manifest is moved for the last time it names the one before, from then on the new one.
    commit, before = 1 + (saved > 1), [saved] * (saved > 0)
    moved = [int(moment.split()[0]) if moment else commit for moment in moments]
    for number, outcome in zip(moved, outcomes, strict=True):
        assert outcome == [3, *before] if number == commit else outcome[:1] == before
    assert moved.count(0) > 1
    assert moved.count(commit) > 1
    # The promise was put to the test while emptying, making, writing and naming.
    for words in ("os.mkdir", "zarr.json", "/c/1/1/", "os.fsync", *(("os.remove", "os.rmdir") if saved > 1 else ())):
        assert any(words in moment for moment in moments), words
    # In a part, too; a tree is removed by names without their directories, but for its own.
    for words in ("os.rmdir", "os.mkdir", "zarr.json", "/c/1/1/"):
        for part in parts:
            named = re.compile(rf"/a-[0-9a-f]{{8}}\.{part}")
            assert any(words in moment and named.search(moment) for moment in moments), (words, part)
    assert len(moments) > 40


# Full disks


def fill(directory: Path) -> Path:
    filler = directory / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def test_on_a_full_disk_what_was_saved_before_is_intact(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "11m") as disk:
        checkpoints = Checkpoints(disk / "canvas")
        for number in (1, 2, 3):
            save_number(checkpoints, number)
        room = free(disk)
        # Two chunks of 3 MB each, where there is room for one and a half.
        for _ in range(3):
            begun = checkpoints.begin((600, 40), 1, 4, [])
            blocks = deal_blocks(grid_of((600, 40), (40, 40)), 2)
            filler = disk / "filler"
            filler.write_bytes(bytes(free(disk) - 4_700_000))
            with pytest.raises(UserError, match=r"No space.*free some space"):
                save(workers_of(blocks, Still(noise((600, 40), 4))), blocks, checkpoints.path(begun), begun.token)
            filler.unlink()
            assert numbers(checkpoints) == [3]
            checkpoints.abandon(begun)
            assert free(disk) > room
        assert numbers(checkpoints) == [3]
        save_number(checkpoints, 5)
        assert numbers(checkpoints) == [5, 3]


@pytest.mark.parametrize("name", ["begin", "commit", "forget", "keep_newest"])
def test_a_manifest_that_finds_no_room_leaves_the_one_before(name: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "8m") as disk:
        checkpoints = Checkpoints(disk / "canvas")
        for number in (1, 2):
            save_number(checkpoints, number)
        newest, older = checkpoints.read()[1]
        filler = fill(disk)
        with pytest.raises(UserError, match=r"No space.*free some space"):
            match name:
                case "begin":
                    checkpoints.begin((30, 30), 0, 3, [])
                case "commit":
                    checkpoints.commit(FIXED, replace(newest, token="another"))
                case "forget":
                    checkpoints.forget(older)
                case "keep_newest":
                    checkpoints.keep_newest()
        assert numbers(checkpoints) == [2, 1]
        filler.unlink()
        save_number(checkpoints, 3)
        assert numbers(checkpoints) == [3, 2]


@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt])
def test_why_a_run_stopped_is_told_though_the_record_finds_no_room(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = jobs.draft(load_config("preview", [*SMALL, f"output.dir={tmp_path / 'run'}"])).resolved.directory

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(error, match="the same command goes on"), directory.opened():
        directory.start_record()
        monkeypatch.setattr(Path, "write_text", full)
        raise error("the same command goes on")


# Going on


@dataclass(frozen=True)
class Undisturbed:
    canvas: Pixels
    gradients: list[tuple[float, ...]]
    moments: int

    def equals(self, canvas: Pixels, dream: Dream) -> None:
        assert canvas.tobytes() == self.canvas.tobytes()
        assert dream.gradients == self.gradients
        assert [len(octave.seconds) for octave in dream.history] == [3, 3]
        assert dream.saved[0] == (1, 3)
        (checkpoint, *_) = dream.checkpoints.read()[1]
        assert canvas_of(dream.checkpoints, checkpoint).tobytes() == self.canvas.tobytes()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The run that nobody disturbs."""
    dream, checks = Dream(tmp_path_factory.mktemp("straight")), Stop()
    with chunks_of(64):
        canvas, events = dream.run(checks)
    assert canvas.shape == (160, 240, 3)
    assert canvas.std() > 10
    assert sum(isinstance(event, Saved) for event in events) == 6
    return Undisturbed(canvas, dream.gradients, checks.calls)


@pytest.fixture
def dream(tmp_path: Path) -> Iterator[Dream]:
    with chunks_of(64):
        yield Dream(tmp_path)


def begun_at(events: list[Event]) -> tuple[int, int]:
    first = next(event for event in events if isinstance(event, OctaveStarted))
    return first.octave.index, first.steps


@pytest.mark.parametrize("part", range(6))
def test_stopped_at_any_moment_it_goes_on_to_the_same_bits(part: int, tmp_path: Path, straight: Undisturbed) -> None:
    """Every sixth moment, at which the canvas is saved first unless it is between two octaves."""
    assert straight.moments > 30
    reached = []
    for moment in range(1 + part, straight.moments + 1, 6):
        with chunks_of(64):
            dream = Dream(tmp_path / str(moment))
            dream.stopped(Stop(moment), every=1e9)
            saved = dream.saved[0] if dream.saved else None
            canvas, events = dream.run(every=1e9, workers=1 + moment % 4)
            # A checkpoint before the first step is one, too.
            assert begun_at(events) == (saved or (0, 0))
            straight.equals(canvas, dream)
        reached.append(saved)
    assert reached == sorted(reached, key=lambda saved: saved or (-1, -1))
    assert {(1, 0), (1, 1), (1, 2)} & set(reached)


def test_stopped_again_and_again_with_other_workers_and_scratch_files(dream: Dream, straight: Undisturbed) -> None:
    moments = [7, 3, 9, 2, 12, 1, 8]
    for attempt, moment in enumerate(moments):
        dream.stopped(Stop(moment), workers=1 + attempt % 5, mapped=attempt % 2 == 1)
    assert dream.saved[0] > (0, 1)
    canvas, _ = dream.run(workers=3, mapped=True)
    straight.equals(canvas, dream)
    assert list((dream.directory / "scratch").iterdir()) == []


def test_an_urgent_stop_leaves_the_last_checkpoint(dream: Dream, straight: Undisturbed) -> None:
    dream.stopped(Stop(straight.moments, UrgentInterrupt), every=1e9)
    # What was saved at the end of the first octave.
    assert dream.saved == [(0, 3)]
    canvas, events = dream.run()
    assert begun_at(events) == (0, 3)
    straight.equals(canvas, dream)


def spoil(path: Path) -> None:
    """Flips a bit in the last chunk that was written."""
    *_, chunk = sorted(path for path in path.rglob("0") if path.is_file())
    content = chunk.read_bytes()
    chunk.write_bytes(flipped(content, 4 * len(content)))


DAMAGES = {
    "a flipped bit": spoil,
    "no metadata": lambda path: (path / "zarr.json").unlink(),
    "nothing there": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_from_a_damaged_checkpoint_it_falls_back_to_the_one_before(
    damage: Callable[[Path], object], dream: Dream, straight: Undisturbed, caplog: pytest.LogCaptureFixture
) -> None:
    dream.stopped(Stop(straight.moments))
    newest, older = dream.checkpoints.read()[1]
    assert [(one.octave, one.steps) for one in (newest, older)] == [(1, 2), (1, 1)]
    damage(dream.checkpoints.path(newest))
    good = content_of(dream.checkpoints.path(older))
    dream.stopped(Stop(1, UrgentInterrupt))
    assert "octave 2, step 2 is damaged" in caplog.text
    assert dream.saved == [(1, 1)]
    assert content_of(dream.checkpoints.path(older)) == good
    canvas, events = dream.run()
    assert begun_at(events) == (1, 1)
    straight.equals(canvas, dream)


@pytest.mark.parametrize("method", ["load", "save"])
def test_a_worker_that_does_not_see_the_disk_costs_no_checkpoint(
    method: str, dream: Dream, straight: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine of the farm where the run directory is not mounted: refused, and nothing is struck from the manifest."""
    dream.stopped(Stop(straight.moments))
    saved = dream.saved
    seen = getattr(Worker, method)
    with monkeypatch.context() as patch:
        patch.setattr(Worker, method, lambda self, path, *arguments: seen(self, Path(f"{path}-elsewhere"), *arguments))
        with pytest.raises(UserError, match=r"elsewhere is no canvas store.*output\.dir must be on a disk.*share"):
            dream.run()
    assert dream.saved == (saved if method == "load" else saved[:1])
    canvas, events = dream.run()
    assert begun_at(events) == saved[0]
    straight.equals(canvas, dream)


def test_when_every_checkpoint_is_damaged_it_starts_over(
    dream: Dream, straight: Undisturbed, caplog: pytest.LogCaptureFixture
) -> None:
    dream.stopped(Stop(straight.moments))
    for checkpoint in dream.checkpoints.read()[1]:
        spoil(dream.checkpoints.path(checkpoint))
    canvas, events = dream.run()
    assert caplog.text.count("is damaged") == 2
    assert begun_at(events) == (0, 0)
    straight.equals(canvas, dream)


def test_a_canvas_of_another_size_than_its_octave_is_damage(dream: Dream, straight: Undisturbed) -> None:
    dream.stopped(Stop(straight.moments))
    newest = dream.checkpoints.read()[1][0]
    shutil.rmtree(dream.checkpoints.path(newest))
    written(dream.checkpoints.path(newest), noise((114, 171), 0), newest.token)
    canvas, events = dream.run()
    assert begun_at(events) == (1, 1)
    straight.equals(canvas, dream)


@pytest.mark.parametrize("every", [0, 1e9])
@pytest.mark.parametrize("moment", [1, 5, 14, 19, 28])
def test_when_workers_are_lost_the_checkpoint_is_taken_up(
    moment: int, every: float, dream: Dream, straight: Undisturbed
) -> None:
    assert moment < straight.moments
    canvas, events = dream.run(Stop(moment, WorkersLost), every=every)
    assert sum(isinstance(event, Recovered) for event in events) == 1
    straight.equals(canvas, dream)


@pytest.mark.parametrize("every", [0, 1e9])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("step", [4, 6])
def test_an_update_that_fails_is_never_taken_for_done(
    step: int, workers: int, every: float, dream: Dream, straight: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the second octave and at its end: the worker lives on, with a canvas that lacks a step."""
    update, updates = Worker.update, []

    def update_or_not(self: Worker, number: int, statistics: Sequence[float]) -> None:
        updates.append(number)
        if len(updates) == step * workers:
            raise MemoryError("no memory for this")
        update(self, number, statistics)

    monkeypatch.setattr(Worker, "update", update_or_not)
    canvas, events = dream.run(workers=workers, every=every, kind=LateExecutor)
    assert sum(isinstance(event, Recovered) for event in events) == 1
    straight.equals(canvas, dream)


def test_lost_workers_and_a_damaged_checkpoint_at_once(dream: Dream, straight: Undisturbed) -> None:
    class Spoiling(Stop):
        def check(self) -> None:
            if self.is_requested and not spoiled:
                spoiled.append(dream.checkpoints.path(dream.checkpoints.read()[1][0]))
                spoil(spoiled[0])
            super().check()

    spoiled: list[Path] = []
    stop = Spoiling(straight.moments, WorkersLost)
    canvas, events = dream.run(stop)
    assert [(event.octave.index, event.steps) for event in events if isinstance(event, OctaveStarted)][-1] == (1, 1)
    straight.equals(canvas, dream)


def test_a_run_that_filled_the_disk_goes_on_when_there_is_room(tmp_path: Path, straight: Undisturbed) -> None:
    with small_disk(tmp_path / "small", "4m") as disk, chunks_of(64):
        dream = Dream(disk)
        filler = disk / "filler"
        filler.write_bytes(bytes(free(disk) - 700_000))
        with pytest.raises(UserError, match=r"No space.*free some space"):
            dream.run()
        assert dream.saved
        filler.unlink()
        begun = dream.saved[0]
        canvas, events = dream.run()
        assert begun_at(events) == begun > (0, 0)
        straight.equals(canvas, dream)


@pytest.mark.slow
def test_an_interrupted_job_ends_as_if_nothing_had_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of it with a real network: stopped twice, its newest canvas damaged, and still the same picture."""
    monkeypatch.setenv("NPROC", str(cores()))
    monkeypatch.setattr("render.planning.deal._CALL_SECONDS", 0)
    stop = Stop()
    farm = InlineFarm(2, cores(), lambda: stop.check())  # noqa: PLW0108 - another one from time to time

    def render(name: str) -> Path:
        config = load_config("preview", [*SMALL, "quiet=true", f"output.dir={tmp_path / name}"])
        with watched(stop), jobs.prepared(jobs.draft(config), farm) as job:
            return jobs.render(job)

    def final(name: str) -> Pixels:
        checkpoints = Checkpoints(tmp_path / name / "canvas")
        (checkpoint,) = checkpoints.read()[1]
        return canvas_of(checkpoints, checkpoint)

    def record(name: str) -> dict[str, Any]:
        return json.loads((tmp_path / name / "run.json").read_text())

    (straight,) = render("straight")
    moments = stop.calls
    for moment, words in ((moments // 3, "octave 1"), (moments // 2, "octave 2")):
        stop = Stop(moment)
        with pytest.raises(KeyboardInterrupt, match=f"the same command goes on from {words}"):
            render("stopped")
        assert record("stopped")["status"] == "interrupted"
    checkpoints = Checkpoints(tmp_path / "stopped" / "canvas")
    spoil(checkpoints.path(checkpoints.read()[1][0]))
    stop = Stop()
    (picture,) = render("stopped")
    assert 0 < stop.calls < moments
    assert "is damaged" in (tmp_path / "stopped" / "render.log").read_text()
    assert final("stopped").tobytes() == final("straight").tobytes()
    assert picture.read_bytes() == straight.read_bytes()
    once, again = record("straight"), record("stopped")
    assert again["status"] == "finished"
    assert len(again["resumed"]) == 2
    assert [octave["mean_gradient"] for octave in again["octaves"]] == [
        octave["mean_gradient"] for octave in once["octaves"]
    ]
    assert [len(octave["mean_gradient"]) for octave in again["octaves"]] == [3, 3]


# Scratch files


def test_without_a_directory_scratch_is_memory() -> None:
    array = scratch.empty((3, 4), None, np.uint8)
    assert (array.shape, array.dtype, array.base) == ((3, 4), np.uint8, None)


def test_a_scratch_array_is_an_array_and_no_file(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "er"
    first, second = scratch.empty((70, 90, 3), place), scratch.empty((70, 90, 3), place)
    assert (type(first), first.dtype, first.shape) == (np.ndarray, np.float32, (70, 90, 3))
    assert list(place.iterdir()) == []
    canvas = noise((70, 90), 0)
    first[...] = canvas
    second[...] = 0
    inner = first[10:20]
    del first
    np.testing.assert_array_equal(inner, canvas[10:20])
    assert list(place.iterdir()) == []


def test_a_scratch_directory_that_cannot_be_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"File exists.*farm\.scratch"):
        scratch.empty((3, 4), tmp_path / "file")


def test_a_scratch_array_takes_its_place_at_once_and_gives_it_back(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "4m") as disk:
        before = free(disk)
        array = scratch.empty((1 << 19,), disk)
        assert before - free(disk) == array.nbytes
        view = array[5:]
        del array
        gc.collect()
        assert free(disk) < before
        del view
        gc.collect()
        assert free(disk) == before


def test_a_disk_too_small_for_scratch_is_explained_and_left_as_it_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "4m") as disk:
        before = free(disk)
        with pytest.raises(UserError, match=r"No space.*free some space.*farm\.scratch") as raised:
            scratch.empty((1 << 21,), disk)
        assert str(disk) in str(raised.value)
        assert (free(disk), list(disk.iterdir())) == (before, [])
        held = scratch.empty((3 << 18,), disk)
        with pytest.raises(UserError, match="No space"):
            scratch.empty((3 << 18,), disk)
        held[...] = 1


def test_a_killed_process_leaves_no_scratch(tmp_path: Path) -> None:
    words = "from pathlib import Path; from render.farm.worker.scratch import empty; import sys, time;" \
        "held = empty((1 << 18,), Path(sys.argv[1])); held[...] = 1; print('held', flush=True); time.sleep(60)"  # fmt: skip
    with small_disk(tmp_path / "small", "4m") as disk:
        before = free(disk)
        with subprocess.Popen([sys.executable, "-c", words, str(disk)], cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"held\n"
            assert free(disk) == before - (1 << 20)
            process.kill()
        assert (free(disk), list(disk.iterdir())) == (before, [])
