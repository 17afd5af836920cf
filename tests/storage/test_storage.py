"""Tests of storage in an object store, and of runs there, with a server that speaks S3 in a separate process."""

from __future__ import annotations

import json
import os
import pickle
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from render.__main__ import main
from render.atlas.channel_atlas import atlas_path
from render.canvas.store import CanvasStore
from render.commands.export_run import export_command
from render.commands.fetch import fetch_command
from render.commands.status import status_command
from render.commands.view import view_command
from render.config.compose import load, load_config
from render.config.root_kinds import ATLAS
from render.errors import DamagedCheckpoint, Overtaken, StorageError, UserError
from render.farm.checkpoint import Checkpoints, ResumeKey
from render.geometry.geometry import whole
from render.job.job import draft, prepared, render
from render.job.local_home import LocalHome
from render.job.mirrored_home import MirroredHome
from render.job.reexport import export_run
from render.job.run_download import LEDGER, fetch_run
from render.job.run_home import RunHome
from render.source.levels import Level
from render.source.source import open_source
from render.storage import lease as leases
from render.storage.lease import LEASE, Lease, is_held
from render.storage.markers import MARKER, mark
from render.storage.objects import ObjectStorage, Patience
from render.storage.opening import open_storage
from render.storage.storage import Precondition, Storage
from render.storage.stored_pictures import foreign_object, send_picture
from render.storage.user_paths import input_path
from render.storage.write_probe import probe
from render.sweeps.sweep import sweep
from render.system.paths import file_sha256
from tests.conftest import INLINE, ROOT, TINY, refusal
from tests.support.farm_job import JOB
from tests.support.s3 import Server, serving

#: As `JOB`, and small enough to be rendered a few times.
SMALL = ("image=sample:chelsea", "output.width=128", "octaves.count=2", "octaves.steps=2", "objective.terms=[mixed0]")
FIXED = ResumeKey("digest", "weights", ((96, 96),), 2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("s3") / "log") as started:
        yield started


@pytest.fixture
def bucket(server: Server) -> str:
    """Return the URL of a new bucket."""
    return server.make_bucket(f"bucket-{secrets.token_hex(4)}")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the test's own cache directory for mirrored runs; weights and kernels stay in the common one."""
    monkeypatch.setattr("render.job.mirrored_home.cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def names(place: str) -> list[str]:
    return [entry.name for entry in open_storage(place).tree()]


def canvas_at(place: str) -> np.ndarray:
    """Return the canvas of the newest checkpoint, read from the store alone."""
    checkpoints = Checkpoints(f"{place}/canvas")
    read = checkpoints.read()
    assert read is not None
    store = CanvasStore(checkpoints.path(read[1][0]), read[1][0].token)
    return store.read(store.rect)


@pytest.mark.parametrize("kind", ["local", "objects"])
def test_what_is_written_is_read_and_removed(kind: str, tmp_path: Path, bucket: str) -> None:
    storage: Storage = open_storage(tmp_path / "place" if kind == "local" else f"{bucket}/place")
    with pytest.raises(FileNotFoundError):
        storage.load("a/one")
    assert storage.info("a/one") is None
    assert storage.children() == [] and list(storage.tree()) == []
    storage.write("a/one", b"1")
    storage.write("a/one", b"11")
    storage.write("a/two", b"222")
    storage.write("ab", b"3")
    assert storage.load("a/one")[0] == b"11"
    assert storage.children() == ["a", "ab"]
    assert [(entry.name, entry.size) for entry in storage.tree("a")] == [("one", 2), ("two", 3)]
    large = np.random.default_rng(1).bytes(40 << 20)
    (tmp_path / "large").write_bytes(large)
    sent = storage.write_file("a/large", tmp_path / "large")
    assert (sent.size, storage.info("a/large").tag) == (len(large), sent.tag)
    storage.fetch("a/large", tmp_path / "back" / "large")
    assert (tmp_path / "back" / "large").read_bytes() == large
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["large"]
    storage.remove("a/one")
    storage.remove("a/one")
    storage.remove_tree("a")
    assert [entry.name for entry in storage.tree()] == ["ab"]
    assert pickle.loads(pickle.dumps(storage)).load("ab")[0] == b"3"


def test_a_fetch_goes_on_where_it_was_cut_off_and_never_mixes_two_objects(tmp_path: Path, bucket: str) -> None:
    storage = ObjectStorage(bucket)
    content = np.random.default_rng(1).bytes(1 << 20)
    (tmp_path / "file").write_bytes(content)
    info = storage.write_file("object", tmp_path / "file")
    partial = tmp_path / f".copy.{info.tag.strip(chr(34))}.partial"
    partial.write_bytes(content[:1000])
    storage.fetch("object", tmp_path / "copy", info)
    assert (tmp_path / "copy").read_bytes() == content
    storage.write("object", b"other")
    with pytest.raises(StorageError, match="was replaced while it was read"):
        storage.fetch("object", tmp_path / "second", info)
    assert not (tmp_path / "second").exists()


def test_an_object_is_replaced_only_as_it_was_seen(bucket: str) -> None:
    storage = ObjectStorage(bucket)
    first = storage.write("x", b"1", Precondition.ABSENT)
    with pytest.raises(Overtaken):
        storage.write("x", b"2", Precondition.ABSENT)
    # The same bytes: an answer was lost, and the request made again.
    assert storage.write("x", b"1", Precondition.ABSENT) == first
    second = storage.write("x", b"2", first)
    with pytest.raises(Overtaken):
        storage.write("x", b"3", first)
    assert storage.load("x") == (b"2", second)


def test_of_two_drivers_one_wins_and_the_other_is_told(bucket: str) -> None:
    first, second = Checkpoints(f"{bucket}/canvas"), Checkpoints(f"{bucket}/canvas")
    mine, theirs = (checkpoints.begin((30, 30), 0, 1, []) for checkpoints in (first, second))
    first.commit(FIXED, mine)
    for attempt in range(2):
        assert first.read()[1] == [mine], attempt
    second.read()
    second.commit(FIXED, theirs)
    message = refusal(lambda: first.begin((30, 30), 0, 2, []))
    assert "another run has saved" in message and bucket in message
    assert [checkpoint.token for checkpoint in Checkpoints(f"{bucket}/canvas").read()[1]] == [theirs.token]


def test_who_was_cut_off_writes_to_what_nothing_names(bucket: str) -> None:
    checkpoints = Checkpoints(f"{bucket}/canvas")
    begun = checkpoints.begin((30, 30), 0, 1, [])
    late = CanvasStore(checkpoints.path(begun), begun.token, mode="r+")
    saved = checkpoints.begin((30, 30), 0, 1, [])
    pixels = np.full((30, 30, 3), 7, np.float32)
    CanvasStore(checkpoints.path(saved), saved.token, mode="r+").write(whole(30, 30), pixels)
    checkpoints.commit(FIXED, saved)
    late.write(whole(30, 30), 0 * pixels)
    np.testing.assert_array_equal(canvas_at(bucket), pixels)
    with pytest.raises(DamagedCheckpoint):
        CanvasStore(checkpoints.path(begun), begun.token)
    checkpoints.keep_newest()
    assert {name.split("/")[1] for name in names(bucket)} == {"manifest.json", saved.slot}


def test_a_lease_is_one_process_and_grows_stale(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_REFRESH_EVERY_S", 0.1)
    storage = ObjectStorage(bucket)
    held = Lease(storage, "a test", "output.dir")
    held.take()
    assert is_held(storage)
    message = refusal(lambda: Lease(storage, "a test", "output.dir").take())
    assert message == f"{bucket} belongs to a test: wait for it or choose another output.dir"
    before = storage.load(LEASE)[0]
    time.sleep(1)
    assert storage.load(LEASE)[0] != before
    held.check()
    held.release()
    assert not is_held(storage) and names(bucket) == []

    # From another machine, whose processes cannot be looked at: the store's clock says whether it is kept fresh.
    theirs = {"token": "theirs", "machine": "another", "pid": 1}
    storage.write(LEASE, json.dumps(theirs).encode())
    assert is_held(storage)
    monkeypatch.setattr(leases, "_POLL_EVERY_S", 0.1)
    refreshing = threading.Timer(0.5, storage.write, (LEASE, json.dumps({**theirs, "time": 1}).encode()))
    refreshing.start()
    assert "belongs to a test" in refusal(lambda: Lease(storage, "a test", "output.dir").take())
    refreshing.join()
    # The store tells the time in whole seconds.
    monkeypatch.setattr(leases, "STALE_S", 3.0)
    begun = time.monotonic()
    mine = Lease(storage, "a test", "output.dir")
    mine.take()
    assert time.monotonic() - begun < 10
    # And now somebody takes it from us.
    storage.write(LEASE, b"{}")
    with pytest.raises(Overtaken, match="may be another run's"):
        for _ in range(50):
            time.sleep(0.1)
            mine.check()
    mine.release()
    assert storage.load(LEASE)[0] == b"{}"


def test_a_holder_that_was_cut_off_goes_on_where_nobody_took_its_lease(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "STALE_S", 0.3)
    monkeypatch.setattr(leases, "_REFRESH_EVERY_S", 1000.0)
    storage = ObjectStorage(bucket)
    held = Lease(storage, "a test", "output.dir")
    held.take()
    before = storage.load(LEASE)[0]
    time.sleep(0.5)
    held.check()
    held.confirm()
    assert storage.load(LEASE)[0] != before
    # Whoever took it has finished meanwhile, and given it back.
    storage.remove(LEASE)
    time.sleep(0.5)
    with pytest.raises(Overtaken):
        held.confirm()
    with pytest.raises(Overtaken):
        held.check()
    held.release()


def test_a_driver_that_lost_its_lease_removes_nothing_of_the_other_s(bucket: str) -> None:
    lost: list[str] = []

    def confirm() -> None:
        if lost:
            raise Overtaken(lost[0])

    mine, theirs = Checkpoints(f"{bucket}/canvas", confirm), Checkpoints(f"{bucket}/canvas")
    mine.commit(FIXED, mine.begin((30, 30), 0, 1, []))
    begun = theirs.begin((30, 30), 0, 2, [])
    lost.append("it is another's")
    with pytest.raises(Overtaken):
        mine.begin((30, 30), 0, 2, [])
    CanvasStore(theirs.path(begun), begun.token)


@pytest.mark.slow
def test_who_has_hours_of_work_waits_for_a_store_that_refuses_connections(
    bucket: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is refused for longer than a few quick attempts take."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    ObjectStorage(bucket).write("x", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

    def listen() -> None:
        with socket.create_server(("127.0.0.1", port)) as listening:
            client, _ = listening.accept()
            with client, socket.create_connection(("127.0.0.1", server.port)) as store:
                store.sendall(client.recv(1 << 16))
                # The server's answer comes in two parts.
                store.shutdown(socket.SHUT_WR)
                while answer := store.recv(1 << 16):
                    client.sendall(answer)

    listening = threading.Timer(12, listen)
    listening.start()
    assert ObjectStorage(bucket, patient=True).load("x")[0] == b"1"
    listening.join()


@pytest.mark.slow
def test_a_store_that_is_gone_for_good_ends_a_run_soon_and_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is waited for once, and not again for the log, the record, the lease and the manifest."""
    monkeypatch.setattr("render.storage.objects._PATIENT", Patience(1, 2, 15, 1000))
    with serving(tmp_path / "log") as dying:
        place = f"{dying.make_bucket('dying')}/run"
        words = [*SMALL, INLINE, "checkpoint.every=0", f"output.dir={place}"]
        with prepared(draft(load_config("preview", words))) as job:
            commit = job.resolved.directory.checkpoints.commit

            def commit_and_lose(*words: Any) -> None:
                commit(*words)
                dying.process.kill()
                dying.process.wait(30)

            monkeypatch.setattr(job.resolved.directory.checkpoints, "commit", commit_and_lose)
            begun = time.monotonic()
            message = refusal(lambda: render(job))
            assert time.monotonic() - begun < 40
    assert "cannot be reached" in message and "the same command goes on from what was saved" in message


@pytest.mark.slow
def test_a_render_by_two_workers_is_the_one_on_disk(expected: np.ndarray, bucket: str, tmp_path: Path, cache: Path) -> None:
    """Workers write chunks to the store; run directory and picture equal those on disk; no picture stays in the cache."""
    words = [*JOB, "farm.workers=2", "farm.executor=ray"]
    with prepared(draft(load_config("preview", [*words, f"output.dir={bucket}/dreams/one"]))) as job:
        assert render(job) == [f"{bucket}/dreams/one/preview.png"]
    np.testing.assert_array_equal(canvas_at(f"{bucket}/dreams/one"), expected)
    stored_names = names(f"{bucket}/dreams/one")
    assert [name for name in stored_names if not name.startswith("canvas/")] == [
        "preview.png", "previews/octave-1.png", "previews/octave-2.png", "render.log", "run.json",
    ]  # fmt: skip
    local_names = sorted(path.name for path in (cache / "runs").glob("*/*"))
    assert local_names == [".lock", "previews", "render.log", "run.json"]
    with prepared(draft(load_config("preview", [*JOB, INLINE, f"output.dir={tmp_path / 'run'}"]))) as job:
        render(job)
    assert open_storage(f"{bucket}/dreams/one").load("preview.png")[0] == (tmp_path / "run" / "preview.png").read_bytes()
    record = json.loads(open_storage(f"{bucket}/dreams/one").load("run.json")[0])
    assert record["status"] == "finished"


@pytest.mark.slow
def test_a_killed_run_goes_on_from_a_machine_that_knows_nothing(command, bucket: str, tmp_path: Path) -> None:
    """The driver is killed after a checkpoint; with another cache the same command ends with the same bytes."""
    words = [*SMALL, INLINE, "octaves.steps=6", "checkpoint.every=0"]
    place = f"{bucket}/dreams/one"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""}
    killed = subprocess.Popen(
        [sys.executable, "-m", "render", *words, f"output.dir={place}"], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL
    )
    storage = open_storage(place)
    while True:
        assert killed.poll() is None, "it was over before it could be killed"
        if storage.info("canvas/manifest.json") is not None and "step 2 in" in _log(storage):
            break
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait(30)
    status = command("status", f"run={place}")
    assert status.code == 1 and "broken off" in status.out and "checkpoint of" in status.out
    went_on = command(*words, f"output.dir={place}", env=_with_other_cache(tmp_path))
    assert went_on.code == 0, went_on.err
    log = _log(storage)
    assert "going on from octave" in log and log.count("octave 1 step 1:") == 1
    status = command("status", f"run={place}")
    assert status.code == 0 and "finished" in status.out and f"{place}/preview.png" in status.out
    local = command(*words, f"output.dir={tmp_path / 'run'}")
    assert local.code == 0, local.err
    assert storage.load("preview.png")[0] == (tmp_path / "run" / "preview.png").read_bytes()


def _log(storage: Storage) -> str:
    try:
        return storage.load("render.log")[0].decode()
    except FileNotFoundError:
        return ""


def _with_other_cache(tmp_path: Path) -> dict[str, str]:
    """Return the environment of an empty cache, except for weights and kernels, which take long to get."""
    from render.system.paths import APPLICATION, cache_directory

    other = tmp_path / "other" / APPLICATION
    other.mkdir(parents=True)
    for name in ("weights", "kernels"):
        if (cache_directory() / name).exists():
            (other / name).symlink_to(cache_directory() / name)
    return {"XDG_CACHE_HOME": str(tmp_path / "other")}


def test_finished_pictures_are_known_without_reading_them(bucket: str) -> None:
    words = [*TINY, f"output.dir={bucket}/run", f"output.path={bucket}/out/dream.png"]
    first = draft(load_config("preview", words))
    with prepared(first) as job:
        assert render(job) == [f"{bucket}/out/dream.png"]
    again = draft(load_config("preview", words))
    assert again.resolved.directory.is_finished() and again.resolved.directory.pictures.missing(_style_of(bucket)) == []
    # A run that starts over replaces its own copy.
    with prepared(draft(load_config("preview", [*words, "fresh=true", "output.quality=80"]))) as job:
        assert render(job) == [f"{bucket}/out/dream.png"]
    storage = ObjectStorage(bucket)
    again = draft(load_config("preview", words))
    # A copy that has changed since is not replaced, nor is a picture in the run's place.
    storage.write("out/dream.png", b"mine")
    assert "exists" in refusal(again.resolved.directory.check)
    storage.remove("out/dream.png")
    storage.write("run/preview.png", b"mine")
    assert "is not as the run left it" in refusal(again.resolved.directory.check)
    assert storage.load("run/preview.png")[0] == b"mine"


def _style_of(bucket: str) -> str:
    record = json.loads(open_storage(f"{bucket}/run").load("run.json")[0])
    style: str = record["pictures"]["preview.png"]["style"]
    return style


def test_what_lies_below_a_name_is_never_replaced_by_a_copy(bucket: str) -> None:
    storage = ObjectStorage(bucket)
    storage.write("photos/one.jpg", b"mine")
    storage.write("a.png/one.jpg", b"mine")
    for path in ("photos.dzi", "a.png"):
        words = [*TINY, "overwrite=true", f"output.dir={bucket}/run", f"output.path={bucket}/{path}"]
        assert "which is not as a run wrote it" in refusal(draft(load_config("preview", words)).resolved.directory.check)
    assert names(bucket) == ["a.png/one.jpg", "photos/one.jpg"]
    bare = load_config("preview", [*TINY, "output.path=s3://bucket.png"])
    assert refusal(lambda: draft(bare)) == "output.path=s3://bucket.png: it names a bucket: name an object in it"


@pytest.mark.parametrize("kind", ["local", "mirrored"])
def test_homes_on_a_disk_and_in_a_store_offer_the_same(kind: str, tmp_path: Path, bucket: str) -> None:
    def open_home() -> RunHome:
        return LocalHome(tmp_path / "run") if kind == "local" else MirroredHome(f"{bucket}/run")

    home, other = open_home(), open_home()
    home.check_usable()
    home.refuse_busy()
    assert not home.was_held() and home.existing(["a.png", "run.json"]) == []
    with home.hold():
        for is_held in (other.refuse_busy, lambda: other.hold().__enter__()):
            assert f"{home.place} belongs to a run that is still going" in refusal(is_held)
        with home.working():
            for name in ("render.log", "run.json", "a.png"):
                (home.path / name).write_text(name)
            home.store("render.log", "run.json", "missing.json")
            entry = {"sha256": file_sha256(home.path / "a.png"), **home.store_picture("a.png")}
            home.check_held()
            home.confirm_held()
            home.release_picture("a.png")
            home.fetch_picture("a.png")
            assert (home.path / "a.png").read_text() == "a.png"
    other.refuse_busy()
    assert other.was_held() and other.has("a.png") and not other.has("b.png")
    assert other.existing(["b.png", "run.json", "a.png"]) == ["run.json", "a.png"]
    assert other.has_recorded_picture("a.png", entry) and not other.has_recorded_picture("b.png", entry)
    open_storage(other.place).write("a.png", b"other")
    assert not other.has_recorded_picture("a.png", entry)
    # A run that is not continued loses its record and its log, and its pictures stay.
    other.remove_run(has_record=True)
    assert other.existing(["run.json", "render.log", "a.png"]) == ["a.png"]


def test_an_object_of_the_same_size_and_other_content_is_not_ours(bucket: str, tmp_path: Path) -> None:
    storage, picture = ObjectStorage(bucket), tmp_path / "zoom"
    for name, content in (("dream.dzi", b"<Image/>"), ("dream_files/0/0_0.jpg", b"tile 1"), ("dream_files/1/0_0.jpg", b"")):
        (picture / name).parent.mkdir(parents=True, exist_ok=True)
        (picture / name).write_bytes(content)
    mark(picture, "digest")
    send_picture(storage, "zoom", picture)
    assert foreign_object(storage, "zoom") is None
    # A picture that was sent in part is ours, too.
    storage.remove("zoom/dream.dzi")
    assert foreign_object(storage, "zoom") is None
    storage.write("zoom/dream_files/0/0_0.jpg", b"mine 1")
    assert foreign_object(storage, "zoom") == "dream_files/0/0_0.jpg"


def test_overwriting_a_run_s_picture_removes_nothing_of_others(bucket: str) -> None:
    words = [*TINY, "output.format=dzi", f"output.dir={bucket}/run"]
    with prepared(draft(load_config("preview", words))) as job:
        render(job)
    storage = ObjectStorage(f"{bucket}/run")
    (index_name,) = (entry.name for entry in storage.tree() if entry.name.endswith("dream.dzi"))
    index = storage.load(index_name)[0]
    storage.write(index_name, index.swapcase())
    assert "is not as the run left it" in refusal(draft(load_config("preview", words)).resolved.directory.check)
    overwriting = draft(load_config("preview", [*words, "overwrite=true"])).resolved.directory
    assert "holds dream.dzi, which is not as a run wrote it and is never replaced" in refusal(overwriting.check)
    storage.write(index_name, index)
    overwriting.check()
    storage.write(index_name.replace("dream.dzi", "notes.txt"), b"mine")
    assert "holds notes.txt, which is not as a run wrote it and is never replaced" in refusal(overwriting.check)


def test_exports_write_to_and_from_a_store_what_was_asked_for(bucket: str, tmp_path: Path) -> None:
    """A directory in a store is replaced if its marker lists all of it; the run itself does not change."""
    storage, run = ObjectStorage(bucket), f"{bucket}/run"
    with prepared(draft(load_config("preview", [*TINY, f"output.dir={run}"]))) as job:
        render(job)
    before = {entry.name: entry.tag for entry in storage.tree("run")}
    assert export_run(run, [f"output.path={tmp_path / 'a.dzi'}"], print) == [tmp_path / "a"]
    zoom = [f"output.path={bucket}/out/a.dzi"]
    assert export_run(run, zoom, print) == [f"{bucket}/out/a"]
    assert f"out/a/{MARKER}" in names(bucket)
    assert "overwrite=true" in refusal(lambda: export_run(run, zoom, print))
    assert export_run(run, [*zoom, "overwrite=true", "output.quality=30"], print) == [f"{bucket}/out/a"]
    for name in ("notes.txt", "dream_files/0/9_9.jpg"):
        storage.write(f"out/a/{name}", b"mine")
        assert f"holds {name}, which is not as a run wrote it and is never replaced" in refusal(
            lambda: export_run(run, [*zoom, "overwrite=true"], print)
        )
        assert storage.load(f"out/a/{name}")[0] == b"mine"
        storage.remove(f"out/a/{name}")
    for telling in ("map.png", MARKER):
        storage.write(f"photos/{telling}", b"mine")
        storage.write("photos/one.jpg", b"mine")
        photos = [f"output.path={bucket}/photos.dzi", "overwrite=true"]
        assert "never replaced" in refusal(lambda photos=photos: export_run(run, photos, print))
        assert storage.load("photos/one.jpg")[0] == storage.load(f"photos/{telling}")[0] == b"mine"
    assert {entry.name: entry.tag for entry in storage.tree("run")} == before


def test_a_picture_may_be_asked_for_where_it_is_kept(bucket: str) -> None:
    words = [*TINY, f"output.dir={bucket}/run", f"output.path={bucket}/run/preview.png"]
    for _ in range(2):
        with prepared(draft(load_config("preview", words))) as job:
            assert render(job) == [f"{bucket}/run/preview.png"]


def test_a_run_that_was_killed_while_it_sent_a_picture_sends_it_again(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a directory is stored, of the run's own picture and of a copy, without its index file."""
    words = [*TINY, "output.format=dzi", f"output.dir={bucket}/run", f"output.path={bucket}/out/dream.dzi"]
    write_file = ObjectStorage.write_file
    for cut_off in (f"{bucket}/run", f"{bucket}/out"):

        def killed(self: ObjectStorage, name: str, path: Path, cut_off: str = cut_off) -> Any:
            if name.endswith("dream.dzi") and self.place == cut_off:
                raise SystemExit
            return write_file(self, name, path)

        monkeypatch.setattr(ObjectStorage, "write_file", killed)
        with pytest.raises(SystemExit), prepared(draft(load_config("preview", words))) as job:
            render(job)
        assert not any(
            name.startswith(cut_off.removeprefix(f"{bucket}/")) and "dream.dzi" in name for name in names(bucket)
        )
    monkeypatch.setattr(ObjectStorage, "write_file", write_file)
    with prepared(draft(load_config("preview", words))) as job:
        assert render(job) == [f"{bucket}/out/dream"]
    assert {"run/preview-zoom/dream.dzi", "out/dream/dream.dzi"} <= set(names(bucket))


def test_another_run_and_a_second_driver_are_refused(bucket: str) -> None:
    words = [*TINY, f"output.dir={bucket}/run"]
    with prepared(draft(load_config("preview", words))) as job, job.resolved.directory.opened():
        other = draft(load_config("preview", words))
        assert refusal(other.resolved.directory.refuse_busy) == (
            f"{bucket}/run belongs to a run that is still going: wait for it or choose another output.dir"
        )
        with pytest.raises(UserError, match="still going"), other.resolved.directory.opened():
            pass
        job.resolved.directory.start_record(status="running")
    third = draft(load_config("preview", [*words, "seed=3"]))
    assert "holds another run (differs in seed)" in refusal(third.resolved.directory.check)
    coarse = draft(load_config("preview", [*words, "model.precision=bfloat16"]))
    assert "holds another run (differs in model.precision)" in refusal(coarse.resolved.directory.check)
    ObjectStorage(bucket).write("mine/previews/a.png", b"1")
    fourth = draft(load_config("preview", [*TINY, f"output.dir={bucket}/mine"]))
    assert "holds a previews that no run made" in refusal(fourth.resolved.directory.check)


def test_a_driver_that_lost_its_lease_stops_and_touches_nothing(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver was cut off for longer than a lease lasts, and another one has taken the run."""
    monkeypatch.setattr(leases, "_REFRESH_EVERY_S", 0.05)
    storage = ObjectStorage(f"{bucket}/run")
    with prepared(draft(load_config("preview", [*SMALL, INLINE, "checkpoint.every=0", f"output.dir={bucket}/run"]))) as job:
        commit = job.resolved.directory.checkpoints.commit

        def commit_and_be_overtaken(*words: Any) -> None:
            commit(*words)
            for name in (LEASE, "run.json", "render.log"):
                storage.write(name, b"theirs")
            time.sleep(1)

        monkeypatch.setattr(job.resolved.directory.checkpoints, "commit", commit_and_be_overtaken)
        assert "may be another run's" in refusal(lambda: render(job))
    assert {storage.load(name)[0] for name in (LEASE, "run.json", "render.log")} == {b"theirs"}


def test_a_plan_for_other_machines_says_where_the_run_will_be(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *SMALL, f"output.dir={bucket}/run", "node=cpu"]) == 0
    assert f"in {bucket}/run\n" in capsys.readouterr().out


@pytest.mark.slow
def test_a_store_that_cannot_work_is_found_before_rendering(
    command, bucket: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(place: str) -> str:
        # The message may come of either: the record is looked for first.
        def look() -> None:
            draft(load_config("preview", [*TINY, f"output.dir={place}"])).resolved.directory.check()

        return refusal(look)

    assert refused("s3://there-is-none/run") == "there is no bucket s3://there-is-none: make it, or choose another"
    assert (
        refused("s4://bucket/run") == "output.dir=s4://bucket/run: s4:// is not known: take s3://, gs://, az:// or a path"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for endpoint in ("http://127.0.0.1:1", f"http://127.0.0.1:{silent.getsockname()[1]}"):
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            begun = time.monotonic()
            assert refused(f"{bucket}/run").startswith(f"{bucket}/run cannot be reached: ")
            assert time.monotonic() - begun < 20
    with read_only(server) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        message = refused(f"{bucket}/run")
        assert "cannot be written to" in message and f"no permission for {bucket}/run" in message
        command(*TINY, f"output.dir={bucket}/run", env={"AWS_ENDPOINT_URL": endpoint}).refused(message)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    assert names(bucket) == []


class read_only:
    """A proxy of the server that refuses writes, as for credentials without that permission."""

    def __init__(self, server: Server) -> None:
        import urllib.error
        import urllib.request
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                request = urllib.request.Request(f"{server.endpoint}{self.path}", method=self.command)
                try:
                    with urllib.request.urlopen(request, timeout=30) as answer:
                        self._answer(answer.status, answer.read())
                except urllib.error.HTTPError as error:
                    self._answer(error.code, error.read())

            do_HEAD = do_GET

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


ODD_NAMES = (
    "a#b", "a?b", "a?b=c&d#e", "sp ace", "A", "a", "\u00e9", "e\u0301",
    "[b]{c}~^`|<>\"\\", "*:;@,!$'()+", "\u3000\U0001f408",
)  # fmt: skip


def test_inputs_are_brought_once_and_again_when_they_change(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from render.config.schema import SourceConfig
    from render.source.source import sample_path

    monkeypatch.setattr("render.system.paths.cache_directory", lambda: tmp_path / "cache")
    storage = ObjectStorage(f"{bucket}/in")
    storage.write_file("a.png", sample_path("chelsea"))
    url = f"{bucket}/in/a.png"
    opened = open_source(url, 0, SourceConfig())
    assert opened.sha256 == open_source("sample:chelsea", 0, SourceConfig()).sha256
    first = input_path(url, "image")
    stamp = first.stat().st_mtime_ns
    assert input_path(url, "image") == first and first.stat().st_mtime_ns == stamp
    storage.write_file("a.png", sample_path("coffee"))
    assert open_source(url, 0, SourceConfig()).sha256 == open_source("sample:coffee", 0, SourceConfig()).sha256
    # A name is what it says, though it looks like an escape in a URL.
    storage.write_file("100%/d%20e.png", sample_path("chelsea"))
    assert input_path(f"{bucket}/in/100%/d%20e.png", "image").read_bytes() == sample_path("chelsea").read_bytes()
    ObjectStorage(f"{bucket}/in/d%20e").write("x", b"1")
    assert "in/d%20e/x" in names(bucket)
    # Names that differ by case or by Unicode form alone are two.
    for number, name in enumerate(ODD_NAMES):
        ObjectStorage(f"{bucket}/odd/{name}").write(f"x{name}", bytes([number]))
        assert f"odd/{name}/x{name}" in names(bucket)
        assert input_path(f"{bucket}/odd/{name}/x{name}", "image").read_bytes() == bytes([number])
    assert {Path(name).name for name in ObjectStorage(f"{bucket}/odd").children()} == set(ODD_NAMES)
    for text, words in (
        (f"{bucket}/in/none.png", "there is no such object"),
        ("s3://there-is-none/a.png", "there is no bucket"),
        ("http://example.org/a.png", "http:// is not known"),
        ("s3://", "names no bucket"),
        (bucket, "it names a bucket"),
    ):
        message = refusal(lambda text=text: open_source(text, 0, SourceConfig()))
        assert f"image={text}" in message and words in message


def test_levels_of_a_large_source_are_read_from_the_store(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from render.config.schema import SourceConfig
    from render.source import source as sources
    from render.source.source import sample_path

    monkeypatch.setattr(sources, "MAX_IN_MEMORY_PX", 1000)
    stored_source, local_source = (
        open_source(str(sample_path("chelsea")), 0, SourceConfig()).laid_out(None, place)
        for place in (f"{bucket}/source", tmp_path / "source")
    )
    for source in (stored_source, local_source):
        source.prepare((150, 225))
    again = pickle.loads(pickle.dumps(stored_source))
    np.testing.assert_array_equal(again.at((150, 225), whole(150, 225)), local_source.at((150, 225), whole(150, 225)))
    (level,) = {name.split("/")[0] for name in names(f"{bucket}/source")}
    assert Level.open(f"{bucket}/source/{level}") is not None
    ObjectStorage(f"{bucket}/source/{level}").remove("c/0/0/0")
    with pytest.raises(UserError, match="has a damaged chunk"):
        pickle.loads(pickle.dumps(stored_source)).at((150, 225), whole(150, 225))
    stored_source.discard()
    assert names(bucket) == []


def test_fetch_brings_a_run_that_is_whole_and_never_replaces_what_is_not_its_own(bucket: str, tmp_path: Path) -> None:
    url, here = f"{bucket}/dreams/one", tmp_path / "here"
    with prepared(draft(load_config("preview", [*TINY, "output.also=[dzi]", f"output.dir={url}"]))) as job:
        render(job)
    storage = ObjectStorage(url)
    assert fetch_run(url, here, print, pictures=True) == [here / "preview.png", here / "preview-zoom"]
    assert not (here / "run.json").exists()
    fetch_run(url, here, print)
    assert {path.name for path in here.iterdir()} == {
        "preview.png", "preview-zoom", "previews", "run.json", "render.log", LEDGER, ".lock",
    }  # fmt: skip
    stamp = (here / "preview.png").stat().st_mtime_ns
    fetch_run(url, here, print, canvas=True)
    assert (here / "preview.png").stat().st_mtime_ns == stamp
    # It is a run as on disk: finished, with nothing to be done, and its canvas is the one that was dreamed.
    again = draft(load_config("preview", [*TINY, "output.also=[dzi]", f"output.dir={here}"]))
    assert again.resolved.directory.is_finished()
    again.resolved.directory.check()
    np.testing.assert_array_equal(again.resolved.directory.canvas().read(whole(64, 96)), canvas_at(url))

    # What has changed there since is brought, what has been changed here is not replaced.
    storage.write("render.log", b"more")
    fetch_run(url, here, print)
    assert (here / "render.log").read_bytes() == b"more"
    (here / "preview.png").write_bytes(b"mine")
    assert "differs from" in refusal(lambda: fetch_run(url, here, print))
    assert (here / "preview.png").read_bytes() == b"mine"
    fetch_run(url, here, print, overwrite=True)
    assert (here / "preview.png").read_bytes() == storage.load("preview.png")[0]
    # Without a ledger the same bytes are no conflict.
    (here / LEDGER).unlink()
    fetch_run(url, here, print)


def test_commands_say_what_they_cannot_do_with_a_url(bucket: str) -> None:
    for call, words in (
        (lambda: fetch_command([f"run={bucket}/none"]), f"run={bucket}/none: there is no run"),
        (lambda: fetch_command(["run=dreams/one"]), "is on a disk already"),
        (lambda: fetch_command([f"run={bucket}/one", "from=here"]), "fetch does not know 'from=here'"),
        (lambda: status_command([f"run={bucket}/none"]), "there is no run"),
        (lambda: view_command([f"run={bucket}/one"]), f"make fetch run={bucket}/one canvas=true"),
        (lambda: sweep("preview", ["step_size=1,2", f"sweep.dir={bucket}/sweep"]), "a sweep is kept on a disk"),
        (
            lambda: atlas_path(load(ATLAS, "atlas", ["layer=mixed0", f"output.dir={bucket}/a"])),
            "an atlas is kept on a disk",
        ),
        (lambda: export_command([f"run={bucket}/none"]), "there is no run"),
    ):
        assert words in refusal(call)


class answering:
    """A server that gives one answer to every request, or none, as a network's sign-in page or a hung store."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer, self._ended = answer, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.2)
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()

    def _listen(self) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError):
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(0.5)
            head = b""
            while not self._ended.is_set():
                try:
                    received = connection.recv(1 << 16)
                except TimeoutError:
                    continue
                if not received:
                    return
                head += received
                if b"\r\n\r\n" in head and self._answer is not None:
                    body = self._answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                    connection.sendall(body if head.startswith(b"HEAD") else self._answer)
                    head = b""


PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome</body></html>"


def page(more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n%sContent-Length: %d\r\n\r\n%s" % (more, len(PAGE), PAGE)


@pytest.mark.parametrize(
    "answer",
    [
        page(),
        page(b'ETag: "x"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n'),
        b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["page", "page with a tag", "redirect"],
)
def test_a_web_page_in_place_of_a_store_is_called_one(
    answer: bytes, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no run, no picture, no empty prefix and no other region, whatever is requested."""
    with answering(answer) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr("render.system.paths.cache_directory", lambda: tmp_path / "cache")
        storage = ObjectStorage("s3://hotel/run")
        for ask in (
            lambda: storage.load("run.json"),
            lambda: storage.info("dream.png"),
            lambda: probe(storage),
            lambda: fetch_run("s3://hotel/run", tmp_path / "to", print),
            lambda: input_path("s3://hotel/me.jpg", "image"),
        ):
            message = refusal(ask)
            assert "is answered by a web page" in message and "sign in to this network" in message


def test_a_store_that_never_answers_is_waited_for_as_long_as_is_said(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("render.storage.objects.SILENCE_S", 2)
    monkeypatch.setattr("render.storage.objects._PATIENT", Patience(10, 120, 1, 1000))
    with answering(None) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        begun = time.monotonic()
        message = refusal(lambda: ObjectStorage("s3://hung/run", patient=True).load("run.json"))
        assert time.monotonic() - begun < 10
        assert "s3://hung/run cannot be reached: nothing came in 2 s" in message


def test_a_signal_ends_the_waiting_for_a_store(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(None) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            ObjectStorage("s3://hung/run", patient=True).load("run.json")
        assert time.monotonic() - begun < 10


def test_nothing_stays_of_trying_whether_a_store_can_be_written(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = ObjectStorage(bucket)
    probe(storage)
    assert names(bucket) == []
    write = storage.write

    def write_and_lose(name: str, data: bytes) -> None:
        write(name, data)
        raise StorageError("no answer came")

    def write_and_stop(name: str, data: bytes) -> None:
        write(name, data)
        raise KeyboardInterrupt

    for way, ends in ((write_and_lose, StorageError), (write_and_stop, KeyboardInterrupt)):
        monkeypatch.setattr(storage, "write", way)
        with pytest.raises(ends):
            probe(storage)
        assert names(bucket) == []
    monkeypatch.undo()
    monkeypatch.setattr("render.storage.write_probe._ABANDONED_S", -1.0)
    for name, data in ((".probe-0123abcd", b""), (".probe-of-mine", b""), (".probe-0123abce", b"a word")):
        write(name, data)
    probe(storage)
    assert names(bucket) == [".probe-0123abce", ".probe-of-mine"]
