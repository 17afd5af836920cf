"""Places that an export writes and replaces: requested ones, and only pictures of this program."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from render.canvas import store as stores
from render.canvas.store import CanvasStore
from render.config.compose import load_config
from render.config.schema import picture_bleed, picture_width
from render.export.export import Style, export
from render.export.metadata import Metadata, read_settings
from render.export.picture_directory import remove_replaced, replacing_directory
from render.export.print_layout import PrintLayout
from render.job.job import draft
from render.job.reexport import export_run, exported_config
from render.job.run_record import read_record
from render.storage.local import UNFINISHED, remove_abandoned
from render.storage.markers import MARKER, foreign_entry, tree_sha256
from tests.conftest import TINY, refusal, rendered
from tests.export.test_export import smooth, stored
from tests.export.test_picture import names
from tests.farm.test_session import gone
from tests.job.test_records import contents

#: A print whose every size is in cm, with its master in 16 bits.
PRINT = (
    *TINY,
    "output.width=null",
    "output.width_cm=2.54",
    "output.dpi=80",
    "output.bleed_mm=2",
    "output.format=tiff",
    "output.bits=16",
    "output.also=[dzi]",
    "quiet=true",
)


def say(line: str) -> None:
    """Drop a line."""


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered(tmp_path_factory.mktemp("made") / "run", *PRINT)


@pytest.fixture
def run(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def canvas(tmp_path: Path) -> CanvasStore:
    return stored(tmp_path / "canvas", smooth((90, 120)))


# ---- An export writes what it was asked for


@pytest.mark.parametrize(
    ("words", "expected_names"),
    [
        (("output.format=tiff", "output.bits=8", "output.profile=p3", "output.path=out/a.tif"), ["a.tif"]),
        (("output.path=out/a.png", "output.also=[out/b.webp,out/c.jpg]"), ["a.png", "b.webp", "c.jpg"]),
        (("output.path=out/a.zarr", "output.contrast=[1,99]"), ["a.zarr"]),
        (("output.path=out/a.dzi", "output.dpi=10"), ["a"]),
        (("output.path=out/a.btf", "output.title=Other"), ["a.btf"]),
    ],
)
def test_an_export_elsewhere_leaves_the_run_as_it_is(words: tuple[str, ...], expected_names: list[str], run: Path) -> None:
    before = contents(run)
    written = export_run(run, list(words), say)
    assert sorted(path.name for path in map(Path, written)) == expected_names == names(Path("out"))
    assert contents(run) == before
    # Nor is what lies elsewhere replaced unasked, its own earlier pictures included.
    other = "output.quality=12" if expected_names != ["a.zarr"] else "output.title=x"
    assert "overwrite=true" in refusal(lambda: export_run(run, [*words, other], say))
    assert export_run(run, [*words, other, "overwrite=true"], say) == written
    assert contents(run) == before


def test_the_same_export_twice_is_no_replacement(run: Path, tmp_path: Path) -> None:
    words = ["output.path=a.png", "output.dpi=50"]
    export_run(run, words, say)
    before = (tmp_path / "a.png").read_bytes()
    export_run(run, words, say)
    assert (tmp_path / "a.png").read_bytes() == before
    # Painted over, though it still says the same of itself, it is the painter's.
    content = bytearray(before)
    content[-40] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    assert "a.png exists" in refusal(lambda: export_run(run, words, say))
    assert (tmp_path / "a.png").read_bytes() == bytes(content)


@pytest.mark.parametrize("image", ["~nosuch/x.png", "a" * 5000, "/" + "a" * 5000, "x/" * 3000, "a\0b", "/dev/null/x.png"])
@pytest.mark.parametrize("form", ["png", "dzi"])
def test_a_recorded_input_that_can_be_no_file_is_none(form: str, image: str, run: Path, tmp_path: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["config"]["image"] = image
    (run / "run.json").write_text(json.dumps(record))
    (tmp_path / "ex").mkdir()
    (tmp_path / "ex.png").touch()
    words = [f"output.path=ex.{form}", "overwrite=true"]
    written = export_run(run, words, say)
    assert [Path(str(path)).name for path in written] == ["ex.png" if form == "png" else "ex"]


def test_the_master_is_not_a_place_for_other_settings(run: Path) -> None:
    """A picture with the path of the run's picture but another format is not the run's own."""
    before = contents(run)
    words = ["output.format=bigtiff", f"output.path={run / 'preview.tif'}"]
    assert "preview.tif exists" in refusal(lambda: export_run(run, words, say))
    assert contents(run) == before


@pytest.mark.parametrize("dpi", [10, 40, 81, 300, 1200])
def test_another_dpi_is_the_same_canvas(dpi: int, run: Path, tmp_path: Path) -> None:
    export_run(run, ["output.path=as-it-was.png"], say)
    export_run(run, ["output.path=a.png", f"output.dpi={dpi}"], say)
    old, new = (pyvips.Image.new_from_file(str(tmp_path / name)).numpy() for name in ("as-it-was.png", "a.png"))
    np.testing.assert_array_equal(old, new)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info["dpi"][0] == pytest.approx(dpi, abs=0.02)
    before, after = (read_settings(tmp_path / name) for name in ("as-it-was.png", "a.png"))
    assert PrintLayout.from_settings(before) == PrintLayout.from_settings(after)
    assert PrintLayout.from_settings(after).bleed_px == 6
    # What the picture says of itself is again this very canvas.
    record = read_record(run)
    config = exported_config(record, [f"output.dpi={dpi}"])
    assert config.digest(record["identity"]) == record["digest"]
    assert (picture_width(config.output), picture_bleed(config.output)) == (80, 6)


def test_another_dpi_inside_the_run_and_none_at_all(run: Path) -> None:
    assert export_run(run, ["output.format=png", "output.dpi=300"], say) == [run / "preview.png"]
    assert "output.bleed_mm" in refusal(lambda: export_run(run, ["output.dpi=null", "output.path=a.png"], say))
    # The run itself is gone on with as before.
    drafted = draft(load_config("preview", [*PRINT, f"output.dir={run}"]))
    drafted.resolved.directory.check()
    assert drafted.resolved.directory.is_finished()


@contextmanager
def another_user() -> Iterator[None]:
    """Run the block as user nobody if this is root, for whom no mode forbids writing."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_run_is_exported_elsewhere(run: Path) -> None:
    # Everything is imported and asked for once before: nobody may look into this user's directories.
    export_run(run, ["output.path=a.png"], say)
    shared = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        shared.chmod(0o755)
        read_only, out = shared / "run", shared / "out"
        shutil.copytree(run, read_only)
        out.mkdir()
        out.chmod(0o777)
        for path in [read_only, *read_only.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = contents(read_only)
        cwd = Path.cwd()
        os.chdir(shared)
        try:
            with another_user():
                words = ["output.dpi=200", f"output.path={out / 'a.tif'}", f"output.also=[{out / 'b.png'}]"]
                assert export_run(read_only, words, say) == [out / "a.tif", out / "b.png"]
                message = refusal(lambda: export_run(read_only, ["output.format=png"], say))
                assert str(read_only) in message and "output.path=FILE" in message and "output.dir" not in message
        finally:
            os.chdir(cwd)
        assert contents(read_only) == before
        assert names(out) == ["a.tif", "b.png"]
    finally:
        for path in [shared, *shared.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(shared)


# ---- What is replaced is provably ours


@pytest.mark.parametrize("telling", ["map.png", "dream.dzi", "zarr.json", "index.html", MARKER])
def test_a_directory_of_the_users_stays_whatever_lies_in_it(telling: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "2024").mkdir(parents=True)
    (tmp_path / "photos" / telling).write_bytes(b"mine")
    (tmp_path / "photos" / "2024" / "me.jpg").write_bytes(b"precious")
    before = contents(tmp_path)
    words = ["output.path=photos.dzi", "overwrite=true"]
    assert "photos is never replaced" in refusal(lambda: export_run(run, words, say))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("form", ["dzi", "zarr"])
def test_a_picture_is_replaced_file_by_file_and_only_where_all_of_it_is_ours(
    form: str, canvas: CanvasStore, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    export(canvas, path, form, Style(), run="1234")
    marker = json.loads((path / MARKER).read_text())
    assert marker["run"] == "1234"
    assert set(marker["files"]) == set(contents(path)) - {MARKER}
    assert foreign_entry(path) is None
    first = contents(path)
    export(canvas, path, form, Style(metadata=Metadata({"seed": 2})))
    assert names(tmp_path) == ["canvas", "out"]
    assert contents(path) != first
    written = next(name for name in contents(path) if name.endswith(("dream.dzi", "zarr.json")))
    for harm in ("added", "below", "changed", "emptied", "linked", "directory"):
        shutil.copytree(path, tmp_path / harm)
        place = tmp_path / harm
        match harm:
            case "added":
                (place / "notes.txt").write_bytes(b"precious")
            case "below":
                (next(p for p in place.rglob("*") if p.is_dir()) / "notes.txt").write_bytes(b"precious")
            case "changed":
                content = bytearray((place / written).read_bytes())
                content[3] ^= 1
                (place / written).write_bytes(content)
            case "emptied":
                (place / written).write_bytes(b"")
            case "linked":
                (place / written).unlink()
                (place / written).symlink_to(canvas._path)
            case "directory":
                (place / "mine").mkdir()
        before = contents(tmp_path)
        assert "never replaced" in refusal(lambda place=place: export(canvas, place, form, Style()))
        assert contents(tmp_path) == before
        # What somebody has taken out of it is no reason to keep the rest.
    (path / written).unlink()
    export(canvas, path, form, Style())
    assert foreign_entry(path) is None


def test_a_marker_lists_nothing_outside(canvas: CanvasStore, tmp_path: Path) -> None:
    precious, path = tmp_path / "precious", tmp_path / "out"
    precious.write_bytes(b"precious")
    export(canvas, path, "zarr", Style())
    marker = json.loads((path / MARKER).read_text())
    marker["files"]["../precious"] = {"size": 8, "sha256": hashlib.sha256(b"precious").hexdigest()}
    (path / MARKER).write_text(json.dumps(marker))
    assert "never replaced" in refusal(lambda: export(canvas, path, "zarr", Style()))
    assert precious.read_bytes() == b"precious"


def test_what_comes_meanwhile_is_not_removed(canvas: CanvasStore, tmp_path: Path) -> None:
    path = tmp_path / "out"
    export(canvas, path, "zarr", Style())

    def write() -> None:
        with replacing_directory(path) as directory:
            (directory / "new").write_bytes(b"new")
            (path / "notes.txt").write_bytes(b"precious")

    assert "notes.txt" in refusal(write)
    assert (path / "notes.txt").read_bytes() == b"precious"
    assert names(tmp_path) == ["canvas", "out"]


def test_a_file_and_a_link_are_no_directories_to_replace(canvas: CanvasStore, run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").write_bytes(b"precious")
    assert "is a file" in refusal(lambda: export_run(run, ["output.path=photos.dzi", "overwrite=true"], say))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert "is a link" in refusal(lambda: export(canvas, tmp_path / "link", "zarr", Style()))
    assert (tmp_path / "photos").read_bytes() == b"precious"


def test_directories_without_markers_are_known_by_the_record_alone(run: Path, tmp_path: Path) -> None:
    """The run's own directory is replaced, as its record lists it; others are not."""
    zoom = run / "preview-zoom"
    (zoom / MARKER).unlink()
    record = json.loads((run / "run.json").read_text())
    record["pictures"]["preview-zoom"]["sha256"] = tree_sha256(zoom)
    (run / "run.json").write_text(json.dumps(record))
    shutil.copytree(zoom, tmp_path / "copy")
    assert "never replaced" in refusal(lambda: export_run(run, ["output.path=copy.dzi", "overwrite=true"], say))
    assert export_run(run, ["output.format=dzi", "output.quality=20"], say) == [zoom]
    assert foreign_entry(zoom) is None
    # Since changed, it is nobody's to replace.
    (zoom / MARKER).unlink()
    (zoom / "notes.txt").write_bytes(b"precious")
    words = ["output.format=dzi", "output.quality=30"]
    assert "preview-zoom" in refusal(lambda: export_run(run, words, say))
    assert "preview-zoom" in refusal(lambda: export_run(run, [*words, "overwrite=true"], say))
    assert (zoom / "notes.txt").read_bytes() == b"precious"


def test_what_a_killed_process_left_half_written_goes_and_nothing_else(canvas: CanvasStore, tmp_path: Path) -> None:
    half, old = tmp_path / f".render-{gone()}-0a1b2c3d", tmp_path / ".render-1-0a1b2c3d-old"
    half.mkdir()
    (half / "x").write_bytes(b"half")
    (half / UNFINISHED).touch()
    (tmp_path / f".render-{gone()}-0a1b2c3d").write_bytes(b"half")
    mine = tmp_path / f".render-{gone()}-deadbeef"
    mine.mkdir()
    (mine / "notes").write_bytes(b"precious")
    in_hand = tmp_path / f".render-{os.getpid()}-deadbeef"
    in_hand.write_bytes(b"half")
    export(canvas, old, "zarr", Style())
    (old / "notes.txt").write_bytes(b"precious")
    (tmp_path / ".render-mine").write_bytes(b"precious")
    (tmp_path / ".render-3-0a1b2c3d").symlink_to(canvas._path)
    remove_abandoned(tmp_path)
    remove_replaced(tmp_path)
    assert (mine / "notes").read_bytes() == b"precious"
    assert in_hand.exists()
    shutil.rmtree(mine)
    in_hand.unlink()
    assert names(tmp_path) == [".render-1-0a1b2c3d-old", ".render-3-0a1b2c3d", ".render-mine", "canvas"]
    # All of it stays where anything has been added.
    assert {"notes.txt", "zarr.json", MARKER} <= set(names(old))
    (old / "notes.txt").unlink()
    remove_replaced(tmp_path)
    assert not old.exists()
    assert stores.CanvasStore(tmp_path / "canvas").shape == (90, 120)


@pytest.mark.parametrize("link", ["inner", "whole", "file"])
def test_a_received_run_removes_nothing_through_links(link: str, run: Path, tmp_path: Path) -> None:
    """A marker in a directory that waits for removal lists paths that lead out of it."""
    victim, old = tmp_path / "victim", run / ".render-1-00000000-old"
    victim.mkdir()
    (victim / "important.txt").write_bytes(b"x")
    file_facts = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    marker = json.dumps({"run": "x", "files": {"sub/important.txt": file_facts, "important.txt": file_facts}})
    match link:
        case "inner":
            old.mkdir()
            (old / "sub").symlink_to(victim)
            (old / MARKER).write_text(marker)
        case "whole":
            old.symlink_to(victim)
            (victim / MARKER).write_text(marker)
        case "file":
            (old / "sub").mkdir(parents=True)
            (old / "sub" / "important.txt").symlink_to(victim / "important.txt")
            (old / MARKER).write_text(marker)
    before = contents(victim)
    export_run(run, ["output.format=tiff", "output.quality=12"], say)
    assert contents(victim) == before
    assert os.path.lexists(old)


@pytest.mark.parametrize("name", [".render-1-00000000-old", ".render-a-old", ".render-1-00000000-olds"])
def test_a_marker_alone_has_nothing_removed_that_is_not_as_it_says(name: str, run: Path) -> None:
    (run / name).mkdir()
    (run / name / "notes").write_bytes(b"x")
    for sha256 in (None, "", hashlib.sha256(b"y").hexdigest()):
        (run / name / MARKER).write_text(json.dumps({"run": "x", "files": {"notes": {"size": 1, "sha256": sha256}}}))
        export_run(run, ["output.format=tiff", "output.title=x"], say)
        assert (run / name / "notes").read_bytes() == b"x"


def test_a_retouched_picture_of_any_size_is_never_replaced(canvas: CanvasStore, tmp_path: Path) -> None:
    """A picture that differs in one pixel is somebody's work, though size, name and time are the same."""
    path = tmp_path / "out"
    with replacing_directory(path, "1234") as directory:
        (directory / "A1.tif").write_bytes(bytes(2 << 20))
        (directory / "map.png").write_bytes(b"map")
    tree, facts = tree_sha256(path), (path / "A1.tif").stat()
    with (path / "A1.tif").open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"\1")
    os.utime(path / "A1.tif", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    before = contents(path)
    assert "A1.tif is no part" in refusal(lambda: export(canvas, path, "zarr", Style()))
    assert contents(path) == before
    assert tree_sha256(path) != tree


def test_starting_over_removes_what_runs_write_and_nothing_else(run: Path) -> None:
    for name in ("canvas/notes.txt", "previews/octave-1.txt", "previews/octave-mine.png", "notes.txt"):
        (run / name).write_bytes(b"precious")
    drafted = draft(load_config("preview", [*PRINT, f"output.dir={run}", "fresh=true"]))
    with drafted.resolved.directory.opened():
        pass
    for name in ("canvas/notes.txt", "previews/octave-1.txt", "previews/octave-mine.png", "notes.txt"):
        assert (run / name).read_bytes() == b"precious"
    assert names(run / "canvas") == ["notes.txt"]
    assert not (run / "previews" / "octave-1.png").exists()
