"""What a received or half lost run directory can do: it is read as data, written to nowhere else, and never a traceback."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from render.atlas.atlas_directory import AtlasDirectory
from render.canvas.store import CanvasStore
from render.commands.preflight import preflight_command
from render.commands.status import status_command
from render.config.compose import load_config
from render.errors import DamagedCheckpoint, RenderError, UserError
from render.export.metadata import read_settings
from render.export.profile import read_profile
from render.farm.checkpoint import Checkpoints
from render.job.job import draft, make_again, prepared, render
from render.job.reexport import export_run
from render.job.run_record import read_run
from render.storage import inputs
from render.storage.local import LocalStorage, refuse_links, replacing, write_durably
from render.storage.locking import lock_directory
from render.storage.records import MalformedRecord, Side, WholeNumber, check_shape, fits, parse_record
from render.sweeps.axes.points_file import read_points
from render.sweeps.monitor.board import Board
from render.sweeps.monitor.sweep_record import read_sweep
from render.viewer.live_run import LiveRun
from tests.conftest import TINY, refusal, rendered
from tests.export.test_picture import names

#: A render with all that a record can be wrong about: a print with bleed, in cm, as a picture and as deep zoom.
PRINT = (
    *TINY,
    "output.width=null",
    "output.width_cm=2.54",
    "output.dpi=80",
    "output.bleed_mm=2",
    "output.also=[dzi]",
    "quiet=true",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered(tmp_path_factory.mktemp("made") / "run", *PRINT)


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def say(line: str) -> None:
    """Nobody listens."""


def changed(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((run / "run.json").read_text())
    change(record)
    (run / "run.json").write_text(json.dumps(record))


def contents(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


# ---- Recorded configs are data


def test_what_is_recorded_is_never_interpolated(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "the-password")
    text = "${oc.env:SECRET}"
    changed(run, lambda record: record["config"].update(name=text))
    changed(run, lambda record: record["config"]["output"].update(title=text, author="\\" + text))
    export_run(run, ["output.format=png"], say)
    export_run(run, ["output.path=out.png"], say)
    assert (run / f"{text}.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    assert b"the-password" not in (tmp_path / "out.png").read_bytes()
    assert read_settings(tmp_path / "out.png")["output"]["title"] == text
    assert read_settings(tmp_path / "out.png")["output"]["author"] == "\\" + text
    assert not [path for path in tmp_path.rglob("*") if "the-password" in path.name]
    # What the user types now may be an interpolation still.
    export_run(run, ["output.path=mine.png", "output.quality=${seed}1"], say)
    assert read_settings(tmp_path / "mine.png")["output"]["quality"] == 1


def test_pictures_go_where_todays_words_say_and_nowhere_else(run: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    theirs = str(tmp_path / "theirs" / "x.png")
    recorded = {"path": theirs, "also": [theirs, "s3://theirs/y.png", "webp"], "dir": str(tmp_path / "theirs")}
    changed(run, lambda record: record["config"]["output"].update(recorded))
    changed(
        run,
        lambda record: record["config"]["farm"].update(
            scratch=str(tmp_path / "theirs"), executor="ray", address="ray://theirs:1"
        ),
    )
    assert export_run(run, [], say) == [run / "preview.png", run / "preview.webp"]
    assert export_run(run, ["output.path=mine.tif"], say) == [tmp_path / "mine.tif"]
    assert names(tmp_path / "theirs") == []
    assert names(tmp_path) == ["mine.tif", "run", "theirs"]


def test_a_recorded_url_is_not_fetched_and_another_image_not_shown(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cache_input(*_: object) -> Path:
        raise AssertionError("connected")

    monkeypatch.setattr(inputs, "cache_input", cache_input)
    said: list[str] = []
    for image in ("s3://theirs/x.png", "/etc/hostname", "sample:coffee"):
        changed(run, lambda record, image=image: record["config"].update(image=image))
        export_run(run, ["output.path=zoom.dzi", "overwrite=true"], said.append)
        assert not Path("zoom/source.dzi").exists()
        assert set(LiveRun(run).status()["images"]) == {"dream"}
    assert len([line for line in said if "no source to compare with" in line]) == 3


def test_a_recorded_profile_is_read_only_where_it_is_the_very_one(run: Path, tmp_path: Path) -> None:
    icc = tmp_path / "press.icc"
    icc.write_bytes(read_profile("p3").icc)
    known = hashlib.sha256(icc.read_bytes()).hexdigest()
    changed(run, lambda record: record["config"]["output"].update(profile=str(icc)))
    assert "output.profile" in refusal(lambda: export_run(run, ["output.path=a.tif"], say))
    changed(run, lambda record: record.update(profile_sha256=known))
    assert export_run(run, ["output.path=a.tif"], say)
    icc.write_bytes(read_profile("cmyk").icc)
    assert "output.profile" in refusal(lambda: export_run(run, ["output.path=b.tif"], say))
    assert export_run(run, ["output.path=b.tif", f"output.profile={icc}"], say)
    changed(run, lambda record: record["config"]["output"].update(profile="s3://theirs/press.icc"))
    assert "not read unasked" in refusal(lambda: export_run(run, ["output.path=c.tif"], say))


def test_points_in_a_file_are_values_alone(tmp_path: Path) -> None:
    file = tmp_path / "favourites.yaml"
    for value in ("${oc.env:HOME}", "$\\{oc.env:HOME\\}", "'${oc.env:HOME}'", "[1,'${seed}']"):
        file.write_text(json.dumps([{"objective.terms": value}]))
        assert "values alone" in refusal(lambda: read_points(str(file), {}))
    file.write_text(json.dumps([{"image": "'${oc.env:HOME}'"}]))
    assert "values alone" in refusal(lambda: read_points(str(file), {}))
    file.write_text(json.dumps([{"image": "s3://theirs/x.png"}]))
    assert "no URLs" in refusal(lambda: read_points(str(file), {}))
    # A name may hold these very characters, and is never looked up.
    file.write_text(json.dumps([{"image": "${x}.png"}]))
    assert read_points(str(file), {})[0]["image"].text == "${x}.png"


# ---- Names that lead elsewhere


@pytest.mark.parametrize("name", ["../x.png", "/tmp/x.png", "a/b.png", "..", ""])
def test_a_recorded_picture_has_a_plain_name(name: str, run: Path) -> None:
    changed(run, lambda record: record["pictures"].update({name: {"sha256": "0", "style": "0"}}))
    assert "pictures" in read_run(run).damage
    changed(run, lambda record: record["pictures"].pop(name))
    assert not read_run(run).damage
    changed(run, lambda record: record.update(picture=name))
    assert "picture" in read_run(run).damage
    # What is kept beside the canvas is whole.
    assert set(read_run(run).record["pictures"]) == {"preview.png", "preview-zoom"}


@pytest.mark.parametrize(
    "change",
    [
        {"slot": "../../outside"},
        {"slot": "/tmp/outside"},
        {"slot": "a-00000000.moments"},
        {"parts": ["../x"]},
        {"token": "../"},
        {"octave": -1},
        {"octave": 10**30},
        {"steps": 1.5},
        {"saved": -1.0},
        {"history": [{"height": 0, "width": 5, "mean_gradient": [], "seconds": []}]},
    ],
)
def test_a_manifest_names_slots_and_nothing_else(change: dict[str, Any], run: Path) -> None:
    path = run / "canvas" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["checkpoints"][0].update(change)
    # Whoever changes one may sign it again.
    signed = json.dumps([manifest["fixed"], manifest["checkpoints"]], sort_keys=True).encode()
    path.write_text(json.dumps(manifest | {"sha256": hashlib.sha256(signed).hexdigest()}))
    for command in (Checkpoints(run / "canvas").read, lambda: export_run(run, ["output.path=x.png"], say)):
        assert "manifest.json cannot be read" in refusal(command)
    assert status_command([f"run={run}"]) == 0
    assert not Path("x.png").exists()


@pytest.mark.parametrize("name", ["previews", "canvas", "render.log", "source", ".lock", "run.json", "progress.json"])
def test_nothing_is_written_through_links_in_a_run_directory(name: str, run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    if (run / name).is_dir() or name == "source":
        shutil.move(run / name, outside) if (run / name).exists() else outside.mkdir()
        (outside / "octave-7.png").write_bytes(b"precious")
    else:
        outside.write_bytes((run / name).read_bytes() if (run / name).exists() else b"precious")
        (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(outside)
    before = contents(tmp_path)
    config = load_config("preview", [*PRINT, f"output.dir={run}", "fresh=true", "overwrite=true"])
    drafted = draft(config)
    assert "link" in refusal(drafted.resolved.directory.check)
    with pytest.raises(UserError, match="link"), drafted.resolved.directory.opened():
        pass
    assert contents(tmp_path) == before


def test_locks_and_points_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    assert "link" in refusal(lambda: lock_directory(tmp_path, "a run"))
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert "link" in refusal(lambda: refuse_links(tmp_path, ".lock"))
    for name in ("../x", "a/../../x", "/x", "a//b", "."):
        with pytest.raises(ValueError, match="no name inside"):
            LocalStorage(tmp_path).write(name, b"")
    record = {"status": "finished", "points": [{"number": 0, "label": "a", "directory": "../../elsewhere"}]}
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    assert read_sweep(tmp_path) == {}


@pytest.mark.parametrize(
    "name",
    ["../precious.png", "/etc/hostname", "channels/../../precious.png", "notes.txt", "link/.bashrc", "channels/me.png"],
)
def test_an_atlas_removes_nothing_outside_of_itself(name: str, tmp_path: Path) -> None:
    atlas, precious = tmp_path / "atlas", tmp_path / "precious.png"
    precious.write_bytes(b"precious")
    (atlas / "channels").mkdir(parents=True)
    known = {name: {"sha256": hashlib.sha256(b"precious").hexdigest()}}
    (atlas / "atlas.json").write_text(json.dumps({"digest": "x", "settings": {}, "pictures": known}))
    directory = AtlasDirectory(atlas, {"size": 3}, fresh=True)
    assert "that no atlas made" in refusal(directory.check)
    # Begun anew where an atlas has been before, it forgets what it cannot rely on.
    with directory.opened():
        pass
    assert directory.record["pictures"] == {}
    assert precious.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["link/.bashrc", "channels/channel-3.png", "sheet.png"])
def test_an_atlas_removes_nothing_through_links(name: str, tmp_path: Path) -> None:
    atlas, home = tmp_path / "atlas", tmp_path / "home"
    atlas.mkdir()
    home.mkdir()
    target = home / Path(name).name
    target.write_bytes(b"precious")
    link = atlas / Path(name).parts[0]
    link.symlink_to(home if "/" in name else target)
    known = {name: {"sha256": hashlib.sha256(b"precious").hexdigest()}}
    (atlas / "atlas.json").write_text(json.dumps({"digest": "x", "settings": {}, "pictures": known}))
    directory = AtlasDirectory(atlas, {"size": 3}, fresh=True)
    with suppress(UserError), directory.opened():
        pass
    assert target.read_bytes() == b"precious"


def test_no_directory_on_the_way_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "run" / "inner").mkdir(parents=True)
    (tmp_path / "run" / "inner" / "link").symlink_to(tmp_path)
    (tmp_path / "through").symlink_to(tmp_path / "run")
    refuse_links(tmp_path / "through", "inner", "inner/new.png")
    for name in ("inner/link", "inner/link/x.png", "inner/link/a/b.png"):
        assert f"{Path('inner', 'link')} is a link" in refusal(lambda name=name: refuse_links(tmp_path / "run", name))


def test_an_array_is_decoded_only_where_it_is_one_of_ours(tmp_path: Path) -> None:
    options: dict[str, Any] = {"shape": (64, 48, 3), "dtype": "float32", "attributes": {"token": "t"}}
    ours = {"chunks": (512, 512, 3), "compressors": [zarr.codecs.Crc32cCodec()]}
    for name, other in {
        "compressed": {**ours, "compressors": [zarr.codecs.ZstdCodec()]},
        "chunks": {**ours, "chunks": (64, 48, 3)},
        "integers": {**ours, "dtype": "uint8"},
        "older": {"chunks": (512, 512, 3), "compressors": None, "zarr_format": 2},
        "endless": {**ours, "shape": (1 << 40, 512, 3)},
    }.items():
        zarr.create_array(str(tmp_path / name), **{**options, **other})
        with pytest.raises(DamagedCheckpoint, match="no canvas store"):
            CanvasStore(tmp_path / name, "t")
    zarr.create_array(str(tmp_path / "ours"), **{**options, **ours})
    assert CanvasStore(tmp_path / "ours", "t").shape == (64, 48)


# ---- Records that are lost, cut or of another shape


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "empty": lambda _content: b"",
    "zeros": lambda content: b"\0" * len(content),
    "cut": lambda content: content[: len(content) // 3],
    "missing": lambda _content: None,
    "shape": lambda _content: b'{"a": 1}',
    "list": lambda _content: b"[]",
    "deep": lambda _content: b"[" * 100_000,
    "nan": lambda content: content.replace(b'"total": ', b'"total": NaN, "x": '),
    "huge": lambda content: content.replace(b'"total": ', b'"total": 1e999, "x": '),
    "bytes": lambda _content: b"\xff\xfe",
}


def damaged(path: Path, kind: str) -> None:
    content = DAMAGE[kind](path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_lost_record_is_found_again_with_the_canvas(kind: str, run: Path, tmp_path: Path) -> None:
    whole = json.loads((run / "run.json").read_text())
    export_run(run, ["output.path=before.png"], say)
    damaged(run / "run.json", kind)
    export_run(run, ["output.path=after.png"], say)
    assert (tmp_path / "before.png").read_bytes() == (tmp_path / "after.png").read_bytes()
    assert status_command([f"run={run}"]) == 0
    assert LiveRun(run).status()["state"] == "finished"
    # The render itself goes on as if nothing had been, and writes it anew.
    before = contents(run)
    drafted = draft(load_config("preview", [*PRINT, f"output.dir={run}"]))
    assert drafted.resolved.directory.is_finished()
    make_again(drafted)
    after = contents(run)
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} <= {"run.json"}
    again = json.loads((run / "run.json").read_text())
    assert {key: again[key] for key in ("digest", "config", "pictures", "identity", "plan")} == {
        key: whole[key] for key in ("digest", "config", "pictures", "identity", "plan")
    }


@pytest.mark.parametrize("kind", ["empty", "missing", "shape", "deep"])
def test_where_nothing_says_which_run_it_is_every_command_says_so(kind: str, run: Path) -> None:
    damaged(run / "run.json", kind)
    damaged(run / "canvas" / "manifest.json", "empty")
    for command in (
        lambda: export_run(run, ["output.path=x.png"], say),
        lambda: status_command([f"run={run}"]),
        lambda: LiveRun(run),
        lambda: preflight_command([f"file={run / 'preview.png'}", f"run={run}"]),
        draft(load_config("preview", [*PRINT, f"output.dir={run}"])).resolved.directory.check,
    ):
        assert "run" in refusal(command)
    # Begun anew it works, and what nobody can vouch for is kept.
    pictures = contents(run)
    fresh = draft(load_config("preview", [*PRINT, f"output.dir={run}", "fresh=true"]))
    assert "preview.png" in refusal(fresh.resolved.directory.check)
    assert contents(run) == pictures
    for name in ("preview.png", "preview-zoom"):
        (run / name).rename(run / f"moved-{name}")
    with prepared(fresh) as job:
        render(job)
    if kind != "missing":
        assert (run / "run.json.unreadable").exists()
    assert read_run(run).record["status"] == "finished"


def test_files_that_no_run_made_are_refused_begun_anew_or_not(tmp_path: Path) -> None:
    (tmp_path / "previews").mkdir()
    (tmp_path / "previews" / "octave-1.png").write_bytes(b"precious")
    (tmp_path / "run.json").write_text('{"mine": true}')
    for words in ((), ("fresh=true",), ("fresh=true", "overwrite=true")):
        drafted = draft(load_config("preview", [*PRINT, f"output.dir={tmp_path}", *words]))
        assert "that no run made" in refusal(drafted.resolved.directory.check)
    assert names(tmp_path) == ["previews", "run.json"]


def test_a_lost_sweep_record_is_no_foreign_file(tmp_path: Path) -> None:
    from render.sweeps.monitor.event_log import Event
    from render.sweeps.sweep_directory import SweepDirectory

    with SweepDirectory(tmp_path).opened({"points": []}) as events:
        events.append(Event("begun", 1.0, None, {"pid": 1, "points": 0}))
    for kind in DAMAGE:
        (tmp_path / "sweep.json").write_bytes(b'{"status": "finished", "points": []}')
        damaged(tmp_path / "sweep.json", kind)
        SweepDirectory(tmp_path).check()
        if kind not in ("nan", "huge"):
            assert "sweep.json" in refusal(lambda: status_command([f"run={tmp_path}"]))
    (tmp_path / "events.jsonl").write_text("no event\n")
    assert "that no sweep made" in refusal(SweepDirectory(tmp_path).check)


@pytest.mark.parametrize(
    "line",
    ['{"kind": [], "time": 1}', '{"kind": "finished", "time": 1e999, "point": 0}', "[" * 50_000, "5",
     '{"kind": "finished", "time": 1, "point": 0, "facts": {"seconds": "x"}}',
     '{"kind": "started", "time": 1, "point": true, "facts": {"attempt": {}}}'],
)  # fmt: skip
def test_lines_that_are_no_events_are_left_out(line: str, tmp_path: Path) -> None:
    points = [{"number": 0, "label": "a", "directory": "points/a"}]
    (tmp_path / "sweep.json").write_text(json.dumps({"status": "finished", "points": points}))
    begun = '{"kind": "begun", "time": 1, "point": null, "facts": {}}'
    (tmp_path / "events.jsonl").write_text(f"{begun}\n{line}\n")
    assert Board.of(tmp_path).counts.waiting == 1


BAD = (
    None, True, 0, -1, 2**70, 1.5, float("nan"), float("inf"), 1e308, "", "../../x", "/tmp/x", "${oc.env:HOME}", "???",
    "\0", "s3://theirs/x", [], {}, [[]], {"": None}, "a" * 3000,
)  # fmt: skip


def altered(value: Any, chance: random.Random) -> Any:
    """The same JSON with one to three places of it removed, renamed or of another kind."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice([1, 1, 2, 3])):
        place = value
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = chance.choice(keys) if keys else None
            inner = None if key is None else place[key]
            if not isinstance(inner, dict | list) or not inner or chance.random() < 0.15:
                break
            place = inner
        if key is None:
            continue
        if chance.random() < 0.2:
            del place[key]
        elif chance.random() < 0.1 and isinstance(place, dict):
            place["../x"] = place.pop(key)
        else:
            place[key] = copy.deepcopy(chance.choice(BAD))
    return value


@pytest.mark.parametrize("seed", range(4))
def test_altered_records_end_in_one_line_and_touch_nothing(seed: int, run: Path, tmp_path: Path) -> None:
    chance = random.Random(seed)
    record = json.loads((run / "run.json").read_text())
    # So that nothing stands in for it.
    manifest = json.loads((run / "canvas" / "manifest.json").read_text())
    del manifest["about"]
    (run / "canvas" / "manifest.json").write_text(json.dumps(manifest))
    for _ in range(12):
        (run / "run.json").write_text(json.dumps(altered(record, chance)))
        before = contents(tmp_path)
        for command in (
            lambda: status_command([f"run={run}"]),
            lambda: LiveRun(run).page(),
            lambda: preflight_command([f"file={run / 'preview.png'}", f"run={run}"]),
            lambda: export_run(run, ["output.path=out.png"], say),
        ):
            try:
                command()
            except RenderError as error:
                assert len(str(error).splitlines()) == 1
        (tmp_path / "out.png").unlink(missing_ok=True)
        assert contents(tmp_path) == before


# ---- How records are written and checked


def test_a_record_has_reached_the_disk_before_and_after_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        done.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_durably(tmp_path / "record.json", b"{}")
    assert done == ["file", "rename", "directory"]
    (tmp_path / "outside").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    write_durably(tmp_path / "link", b"mine")
    assert (tmp_path / "outside").read_bytes() == b"precious"
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "record.json"):
        raise ZeroDivisionError
    assert names(tmp_path) == ["link", "outside", "record.json"]
    assert (tmp_path / "record.json").read_bytes() == b"{}"


def test_shapes_tell_what_is_wrong_and_where() -> None:
    shape = dict[str, list[WholeNumber | None]]
    check_shape({"a": [1, None]}, shape)
    for wrong, where in (({"a": [1.0]}, "it['a'][0]"), ({"a": 1}, "it['a']"), ([], "it"), ({"a": [True]}, "it['a'][0]")):
        with pytest.raises(MalformedRecord) as caught:
            check_shape(wrong, shape)
        assert str(caught.value).startswith(where)
    assert fits(np.iinfo(np.int32).max, WholeNumber) and not fits(1 << 26, Side)
    assert not fits(10**400, float) and not fits(float("nan"), float) and fits(3, float)
    for content, why in ((b"", "empty"), (b"[" * 200 + b"]" * 200, "deep"), (b"{", "JSON"), (b"\xff", "JSON")):
        with pytest.raises(MalformedRecord, match=why):
            parse_record(content)


def test_records_are_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")
    assert "not a file" in read_run(tmp_path).damage
    (tmp_path / "run.json").unlink()
    (tmp_path / "run.json").symlink_to("/dev/zero")
    assert read_run(tmp_path).damage
