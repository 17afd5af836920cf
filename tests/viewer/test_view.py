"""The server behind `view`: tiles of a run's newest checkpoint while the run goes on, and nothing else."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from render.canvas.image import to_integers
from render.canvas.store import CanvasStore
from render.commands.view import view_command
from render.config.schema import SourceConfig
from render.errors import DamagedCheckpoint, UserError
from render.export.profile import read_profile
from render.export.soft_proof import proof
from render.farm.checkpoint import Checkpoint
from render.geometry.geometry import Interval, Rect
from render.job.targets import preview_path
from render.source.source import open_source
from render.viewer import live_run as live
from render.viewer.live_run import LiveRun, NoTile
from render.viewer.server import ViewServer, serving
from render.viewer.shrink import shrink_rect
from render.viewer.tile_proof import TileProof
from tests.conftest import ROOT
from tests.support.http_server import answering
from tests.support.live_run import LiveJob, smooth, sparse

#: What JPEG at quality 92 may change smooth pixels by, levels.
JPEG_LEVELS = 6


@contextmanager
def served(run: LiveRun, script: bytes | None = b"OpenSeadragon") -> Iterator[ViewServer]:
    with serving(run, script) as server, answering(server):
        yield server


def get(server: ViewServer, address: str, **headers: str) -> tuple[int, bytes]:
    """Return the answer to an address that is sent as it is, with its dots."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        connection.request("GET", address, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def pixels_of(tile: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(tile)), np.float32)


def means(canvas: np.ndarray, factor: int) -> np.ndarray:
    """Return the canvas shrunk by means over squares, in the plainest way."""
    height, width = canvas.shape[:2]
    rows, columns = -(-height // factor), -(-width // factor)
    padded = np.full((rows * factor, columns * factor, 3), np.nan)
    padded[:height, :width] = canvas
    return np.nanmean(padded.reshape(rows, factor, columns, factor, 3), axis=(1, 3))


# ---- Tiles


@settings(max_examples=30)
@given(data=st.data(), height=st.integers(1, 90), width=st.integers(1, 90), factor=st.sampled_from([1, 2, 4, 8, 64]))
def test_a_shrunk_rectangle_is_that_of_the_whole_canvas_shrunk(
    data: st.DataObject, height: int, width: int, factor: int
) -> None:
    canvas = np.random.default_rng(height).uniform(0, 255, (height, width, 3)).astype(np.float32)
    expected = means(canvas, factor)
    sides = [Interval(*sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2)))) for n in expected.shape[:2]]
    rect = Rect(*sides)
    if rect.area == 0:
        return
    result = shrink_rect(lambda part: canvas[slice(*part.rows), slice(*part.columns)], (height, width), rect, factor)
    np.testing.assert_allclose(result, expected[slice(*rect.rows), slice(*rect.columns)], atol=1e-3)


def test_every_tile_of_every_level_shows_the_canvas(tmp_path: Path) -> None:
    canvas = smooth(530, 700)
    LiveJob(tmp_path / "run", (530, 700)).save(0, 1, canvas)
    run = LiveRun(tmp_path / "run")
    status = run.status()
    size = status["images"]["dream"]["Image"]["Size"]
    assert size == {"Height": "530", "Width": "700"}
    for level in range(11):
        factor = 2 ** (10 - level)
        expected = means(canvas, factor)
        height, width = expected.shape[:2]
        for row in range(-(-height // 254)):
            for column in range(-(-width // 254)):
                rows = slice(max(0, row * 254 - 1), min(height, row * 254 + 255))
                columns = slice(max(0, column * 254 - 1), min(width, column * 254 + 255))
                tile = pixels_of(run.tile("dream", status["version"], level, row, column))
                difference = np.abs(tile - expected[rows, columns])
                # Coarse levels are steep, which JPEG renders less well.
                assert difference.mean() < (2 if factor <= 8 else 3)
                assert difference.max() <= (JPEG_LEVELS if factor == 1 else 4 * JPEG_LEVELS)
    for beyond in ((11, 0, 0), (10, 3, 0), (10, 0, 3)):
        with pytest.raises(NoTile, match="no such tile"):
            run.tile("dream", status["version"], *beyond)


def test_tiles_of_a_soft_proof_are_those_of_the_whole_proof(tmp_path: Path) -> None:
    canvas = smooth(300, 451)
    LiveJob(tmp_path / "run", (300, 451)).save(0, 1, canvas)
    profile = read_profile("cmyk")
    image = pyvips.Image.new_from_array(to_integers(canvas, 16)).copy(interpretation="rgb16")
    expected = proof(image, profile, "relative")
    assert 0.02 < expected.beyond < 0.98
    run = LiveRun(tmp_path / "run", TileProof(profile, "relative"))
    status = run.status()
    assert list(status["images"]) == ["dream", "proof", "gamut"]
    for column, columns in enumerate((slice(0, 255), slice(253, 451))):
        for row, rows in enumerate((slice(0, 255), slice(253, 300))):
            shown = pixels_of(run.tile("proof", status["version"], 9, row, column))
            assert np.abs(shown - expected.shown[rows, columns]).mean() < 2
            marked = pixels_of(run.tile("gamut", status["version"], 9, row, column))
            # JPEG blurs the edges of what is marked.
            assert np.median(np.abs(marked - expected.warning[rows, columns])) < 4


def test_without_a_profile_there_is_no_soft_proof(tmp_path: Path) -> None:
    LiveJob(tmp_path / "run", (60, 80)).save(0, 1, smooth(60, 80))
    run = LiveRun(tmp_path / "run")
    with pytest.raises(NoTile, match="no profile was named"):
        run.tile("proof", run.status()["version"], 7, 0, 0)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["profile=nothing.icc"], "profile=nothing.icc: No such file or directory (srgb, p3"),
        (["profile=srgb"], "profile=srgb is what the canvas is in"),
        (["profile=cmyk", "intent=vivid"], "intent=vivid: must be"),
        (["intent=perceptual"], "intent= and paper= belong to a soft proof"),
        (["profile=cmyk", "paper=maybe"], "paper=maybe: must be true or false"),
    ],
)
def test_a_proof_that_cannot_be_shown_is_refused(tmp_path: Path, words: list[str], problem: str) -> None:
    LiveJob(tmp_path / "run", (60, 80)).save(0, 1, smooth(60, 80))
    with pytest.raises(UserError, match=re.escape(problem)):
        view_command([f"run={tmp_path}/run", "open=false", *words])


def test_the_source_is_shown_at_the_canvas_size(tmp_path: Path) -> None:
    source = open_source("sample:chelsea", 0, SourceConfig())
    job = LiveJob(tmp_path / "run", (300, 451), image="sample:chelsea", image_sha256=source.sha256)
    job.save(0, 1, smooth(300, 451))
    run = LiveRun(tmp_path / "run")
    status = run.status()
    assert status["images"]["source"]["Image"]["Size"] == {"Height": "300", "Width": "451"}
    tile = pixels_of(run.tile("source", status["version"], 9, 0, 0))
    expected = source.at((300, 451), Rect(Interval(0, 255), Interval(0, 255)))
    assert np.abs(tile - expected).mean() < 2


def test_a_source_that_is_not_the_run_s_is_not_shown(tmp_path: Path) -> None:
    LiveJob(tmp_path / "run", (30, 45), image="sample:chelsea", image_sha256="another").save(0, 1, smooth(30, 45))
    run = LiveRun(tmp_path / "run")
    assert set(run.status()["images"]) == {"dream"}
    with pytest.raises(NoTile):
        run.tile("source", run.status()["version"], 5, 0, 0)


def test_coarse_tiles_of_a_large_canvas_come_from_the_preview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No tile reads more than the limit, at any level, and it shows the same up to the preview's error."""
    monkeypatch.setattr(live, "MAX_PIXELS", 256 * 256)
    canvas = smooth(130, 150).repeat(10, 0).repeat(10, 1)
    LiveJob(tmp_path / "run", (1300, 1500)).save(0, 3, canvas)
    read: list[int] = []
    honest = CanvasStore.read

    def counted(self: CanvasStore, rect: Rect) -> np.ndarray:
        read.append(rect.area)
        return honest(self, rect)

    monkeypatch.setattr(CanvasStore, "read", counted)
    run = LiveRun(tmp_path / "run")
    version = run.status()["version"]
    for level in range(12):
        tile = pixels_of(run.tile("dream", version, level, 0, 0))
        expected = means(canvas, 2 ** (11 - level))[:255, :255]
        assert tile.shape == expected.shape
        # Lanczos weighs the middle more than plain means do, which shows where few pixels are left.
        assert level < 6 or np.abs(tile - expected).mean() < 3
    assert max(read) <= 256 * 256
    assert sum(read) <= 2 * 256 * 256


def test_when_the_preview_of_a_large_canvas_appears_the_page_learns_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_PIXELS", 100 * 100)
    job = LiveJob(tmp_path / "run", (60, 50), (300, 250))
    job.save(0, 3, np.full((60, 50, 3), 100, np.float32))
    sparse(job, 1, 3, 200.0)
    run = LiveRun(tmp_path / "run")
    before = run.status()["version"]
    assert pixels_of(run.tile("dream", before, 0, 0, 0)).mean() == pytest.approx(100, abs=2)
    Image.new("RGB", (250, 300), (200, 200, 200)).save(preview_path(tmp_path / "run", 1))
    after = run.status()["version"]
    assert after != before
    assert pixels_of(run.tile("dream", after, 0, 0, 0)).mean() == pytest.approx(200, abs=2)


def test_without_any_preview_coarse_tiles_are_made_of_the_canvas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_PIXELS", 100 * 100)
    job = LiveJob(tmp_path / "run", (700, 600))
    sparse(job, 0, 1, 77.0)
    run = LiveRun(tmp_path / "run")
    assert pixels_of(run.tile("dream", run.status()["version"], 0, 0, 0)).mean() == pytest.approx(77, abs=1)


# ---- A run that goes on


def test_the_page_follows_the_run_from_nothing_to_its_end(tmp_path: Path) -> None:
    job = LiveJob(tmp_path / "run", (40, 50), (80, 100))
    run = LiveRun(tmp_path / "run")
    waiting = run.status()
    assert (waiting["version"], waiting["images"]) == (None, {})
    assert "No checkpoint yet" in waiting["waiting"]
    job.save(0, 2, smooth(40, 50))
    first = run.status()
    assert first["words"].startswith("octave 1 of 2, step 2 of 3, saved ")
    job.save(1, 1, smooth(80, 100))
    second = run.status()
    assert second["version"] != first["version"]
    assert second["images"]["dream"]["Image"]["Size"] == {"Height": "80", "Width": "100"}
    # The one before is still whole: a page that is in the middle of it may finish.
    assert pixels_of(run.tile("dream", first["version"], 6, 0, 0)).shape == (40, 50, 3)
    job.save(1, 3, smooth(80, 100, seed=1))
    assert run.status()["words"].startswith("octave 2 of 2, step 3 of 3")
    job.finish()
    assert (run.status()["state"], run.status()["words"]) == ("finished", "finished")
    job.says("interrupted")
    assert run.status()["words"] == "interrupted after octave 2 of 2, step 3 of 3"


def test_a_checkpoint_that_is_being_replaced_is_not_mixed_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canvas that vanishes, is half written or is replaced while it is read shows nothing."""
    job = LiveJob(tmp_path / "run", (40, 50))
    old = job.save(0, 1, np.full((40, 50, 3), 10, np.float32))
    run = LiveRun(tmp_path / "run")
    version = run.status()["version"]
    honest = CanvasStore.read

    def overtaken(self: CanvasStore, rect: Rect) -> np.ndarray:
        """Save two checkpoints between the opening of the store and the reading of its pixels."""
        monkeypatch.setattr(CanvasStore, "read", honest)
        job.save(0, 2, np.full((40, 50, 3), 20, np.float32))
        saved = job.save(0, 3, np.full((40, 50, 3), 30, np.float32))
        assert saved.slot[0] == old.slot[0]
        with pytest.raises(DamagedCheckpoint):
            self.read(rect)
        return np.full((40, 50, 3), 30, np.float32)

    monkeypatch.setattr(CanvasStore, "read", overtaken)
    with pytest.raises(NoTile, match="taken its place"):
        run.tile("dream", version, 6, 0, 0)
    assert pixels_of(run.tile("dream", run.status()["version"], 6, 0, 0)).mean() == pytest.approx(30, abs=1)


def test_a_damaged_canvas_is_answered_with_come_back_later(tmp_path: Path) -> None:
    job = LiveJob(tmp_path / "run", (40, 50))
    checkpoint = job.save(0, 1, smooth(40, 50))
    run = LiveRun(tmp_path / "run")
    image = run.status()["images"]["dream"]["Image"]["Url"]
    with served(run) as server:
        chunk = job.checkpoints.path(checkpoint) / "c" / "0" / "0" / "0"
        whole = chunk.read_bytes()
        for damage in (
            lambda: chunk.write_bytes(whole[:-100]),
            chunk.unlink,
            lambda: shutil.rmtree(job.checkpoints.path(checkpoint)),
        ):
            damage()
            assert get(server, f"/{image}6/0_0.jpg")[0] == 503
        manifest = tmp_path / "run" / "canvas" / "manifest.json"
        manifest.write_text("{}")
        assert get(server, f"/{image}6/0_0.jpg")[0] == 503
        status, body = get(server, "/status.json")
        assert status == 200
        assert json.loads(body)["state"] == "failed"
        manifest.unlink()
        assert get(server, f"/{image}6/0_0.jpg")[0] == 404
        assert "No checkpoint yet" in json.loads(get(server, "/status.json")[1])["waiting"]
        (tmp_path / "run" / "run.json").unlink()
        assert get(server, "/")[0] == 200


def test_readers_and_a_writer_together_see_whole_checkpoints(tmp_path: Path) -> None:
    """While checkpoints of one value each are saved at full speed, every tile has a single value."""
    job = LiveJob(tmp_path / "run", (600, 700))
    job.save(0, 1, np.full((600, 700, 3), 5, np.float32))
    run = LiveRun(tmp_path / "run")
    values: dict[str, float] = {}
    seen: list[tuple[str, float, float]] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            version = run.status()["version"]
            try:
                tile = pixels_of(run.tile("dream", version, 10, 1, 1))
            except (NoTile, DamagedCheckpoint):
                continue
            seen.append((version.partition("-")[0], float(tile.min()), float(tile.max())))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for step in range(12):
        value = 20.0 * (step % 12)
        saved: Checkpoint = job.save(0, 1, np.full((600, 700, 3), value, np.float32))
        values[saved.token] = value
    stop.set()
    for reader in readers:
        reader.join()
    shown = [(token, low, high) for token, low, high in seen if token in values]
    assert shown
    for token, low, high in shown:
        assert values[token] - 1 <= low <= high <= values[token] + 1


# ---- The server


def test_nothing_but_the_run_is_served(tmp_path: Path) -> None:
    LiveJob(tmp_path / "run", (40, 50)).save(0, 1, smooth(40, 50))
    (tmp_path / "run" / "secret.txt").write_text("secret")
    run = LiveRun(tmp_path / "run")
    version = run.status()["version"]
    wrong = [
        "/run.json", "/secret.txt", "/../run/run.json", "/..%2frun%2frun.json", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
        "/dream/../run.json", f"/dream/{version}_files/../../run.json", f"/dream/{version}_files/6/0_0.png",
        f"/dream/{version}_files/6/-1_0.jpg", f"/dream/{version}_files/99/0_0.jpg",
        f"/dream/{version}_files/6/9999999_0.jpg",
        f"/other/{version}_files/6/0_0.jpg", "/dream/0000000000000000-0_files/6/0_0.jpg",
        f"/dream/{version}_files/6/0_0.jpg/",
        f"/dream/{version}_files/6/0_0.jpg%00", "/index.html%00.jpg",
    ]  # fmt: skip
    with served(run) as server:
        for address in wrong:
            status, body = get(server, address)
            assert status == 404, address
            assert b"secret" not in body
        assert get(server, f"/dream/{version}_files/6/0_0.jpg")[0] == 200
        assert get(server, "/openseadragon.min.js") == (200, b"OpenSeadragon")
        # A page from elsewhere whose name has been made to mean this machine.
        assert get(server, "/status.json", Host=f"elsewhere.example:{server.server_port}")[0] == 403
        assert server.server_address[0] == "127.0.0.1"


def test_tiles_may_be_kept_by_the_browser_and_nothing_else(tmp_path: Path) -> None:
    LiveJob(tmp_path / "run", (40, 50)).save(0, 1, smooth(40, 50))
    run = LiveRun(tmp_path / "run")
    with served(run) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        is_immutable = {}
        for address in ("/", "/status.json", f"/dream/{run.status()['version']}_files/0/0_0.jpg"):
            connection.request("HEAD", address)
            answer = connection.getresponse()
            assert answer.read() == b""
            assert int(answer.headers["Content-Length"]) > 0
            is_immutable[address] = "immutable" in answer.headers["Cache-Control"]
        connection.close()
    assert list(is_immutable.values()) == [False, False, True]


def test_the_cache_holds_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = live._Cache(100)
    for number in range(10):
        cache.put((number,), bytes(30))
        assert cache.get((0,)) == (bytes(30) if number < 10 else None)
    assert [number for number in range(10) if cache.get((number,)) is not None] == [0, 8, 9]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "view needs a run directory: run=dreams/NAME"),
        (["run=nowhere"], "run=nowhere: there is no such directory"),
        (["run=."], "is no run directory"),
        (["run=run", "port=70000"], "port=70000: must be a number"),
        (["run=run", "port=-1"], "port=-1: must be a number"),
        (["run=run", "open=maybe"], "open=maybe: must be true or false"),
        (["run=run", "steps=3"], "view does not know 'steps=3'"),
        (["run=run", "quiet"], "view does not know 'quiet'"),
    ],
)
def test_bad_words_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str) -> None:
    LiveJob(tmp_path / "run", (40, 50))
    monkeypatch.chdir(tmp_path)
    for name, value in without_npm(tmp_path).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=re.escape(says)) as refused:
        view_command(words)
    assert "\n" not in str(refused.value)


def test_a_port_that_is_taken_is_refused_in_one_line(tmp_path: Path, command) -> None:
    LiveJob(tmp_path / "run", (40, 50))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command("view", "run=run", f"port={port}", env=without_npm(tmp_path)).refused(
            f"port={port} cannot be used", "port=0"
        )


def without_npm(tmp_path: Path) -> dict[str, str]:
    script = tmp_path / "given.js"
    script.write_text("OpenSeadragon")
    return {"RENDER_OPENSEADRAGON": str(script)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_interrupted_and_ends_quietly(tmp_path: Path, number: signal.Signals) -> None:
    LiveJob(tmp_path / "run", (40, 50)).save(0, 1, smooth(40, 50))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": "open=false", **without_npm(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "render", "view", "run=run"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    shown = re.fullmatch(r"run is shown at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)\n", line)
    assert shown, line
    connection = http.client.HTTPConnection("127.0.0.1", int(shown[1]), timeout=30)
    connection.request("GET", "/")
    assert b"<title>dream</title>" in connection.getresponse().read()
    # With a connection that the browser keeps open.
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    connection.close()
    assert (process.returncode, out, err) == (0, "", "")


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(UserError, match="no run directory"):
        LiveRun(tmp_path)


# ---- Progress and finished pictures


def says_progress(directory: Path, **changes: object) -> None:
    """Write the progress file of a run that is going on."""
    facts = {"octave": 2, "octaves": 3, "step": 4, "steps": 10, "share": 0.4, "worked": 0.4, "rate": 1.5, "left": 200.0}
    (directory / "progress.json").write_text(json.dumps(facts | {"time": time.time()} | changes))


def test_a_run_that_is_going_on_says_how_much_is_left(tmp_path: Path) -> None:
    job = LiveJob(tmp_path / "run", (40, 50), (80, 100), (160, 200))
    run = LiveRun(tmp_path / "run")
    assert (run.status()["progress"], run.status()["words"]) == (None, "waiting for the first checkpoint")
    says_progress(job.directory, octave=1)
    assert run.status()["words"] == ("octave 1 of 3, step 4 of 10, about 3 min 20 s left, waiting for the first checkpoint")
    job.save(0, 2, smooth(40, 50))
    says_progress(job.directory)
    status = run.status()
    assert status["progress"] == {"share": 0.4, "left": pytest.approx(200, abs=3)}
    assert status["words"].startswith("octave 2 of 3, step 4 of 10, about 3 min 20 s left, saved ")
    # It counts down between two reports.
    says_progress(job.directory, time=time.time() - 60)
    assert run.status()["progress"]["left"] == pytest.approx(140, abs=3)
    says_progress(job.directory, left=None)
    assert run.status()["words"].startswith("octave 2 of 3, step 4 of 10, saved ")
    # What a killed run has left, or nobody could have written, says nothing.
    for changes in ({"time": time.time() - 3600}, {"share": 7}, {"left": "soon"}, {"octave": -1}):
        says_progress(job.directory, **changes)
        assert run.status()["progress"] is None, changes
        assert run.status()["words"].startswith("octave 1 of 3, step 2 of 3, saved ")
    says_progress(job.directory)
    job.save(2, 3, smooth(160, 200))
    job.finish()
    assert (run.status()["progress"], run.status()["words"]) == (None, "finished")


def test_finished_pictures_are_downloaded_whole_or_from_where_it_broke_off(tmp_path: Path) -> None:
    job = LiveJob(tmp_path / "run", (40, 50))
    job.save(0, 3, smooth(40, 50))
    content = os.urandom(3_000_000)
    (job.directory / "dream.tif").write_bytes(content)
    (job.directory / "dream é.png").write_bytes(b"png")
    (job.directory / "dream-zoom").mkdir()
    (tmp_path / "secret").write_text("secret")
    (job.directory / "link.png").symlink_to(tmp_path / "secret")
    entry = {"sha256": "", "style": ""}
    names = ("dream é.png", "dream.tif", "dream-zoom", "link.png", "gone.png")
    job.record |= {"picture": "dream.tif", "pictures": dict.fromkeys(names, entry)}
    job.says("running")
    run = LiveRun(job.directory)
    with served(run) as server:
        assert run.status()["pictures"] == []
        assert get(server, "/pictures/0")[0] == 404
        job.finish()
        assert run.status()["pictures"] == [{"name": "dream.tif", "size": 3_000_000}, {"name": "dream é.png", "size": 3}]
        assert get(server, "/pictures/0") == (200, content)
        assert get(server, "/pictures/0", Range="bytes=2999990-") == (206, content[-10:])
        assert get(server, "/pictures/0", Range="bytes=3000000-")[0] == 416
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        connection.request("HEAD", "/pictures/1")
        answer = connection.getresponse()
        assert answer.read() == b""
        assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''dream%20%C3%A9.png"
        assert answer.headers["Content-Length"] == "3"
        connection.close()
        for address in ("/pictures/2", "/pictures/9", "/pictures/", "/pictures/-1", "/pictures/0/", "/pictures/dream.tif"):
            status, body = get(server, address)
            assert (status, b"secret" in body) == (404, False), address
        assert get(server, "/pictures/0", Host=f"elsewhere.example:{server.server_port}")[0] == 403


def test_names_that_leave_the_run_directory_are_no_pictures(tmp_path: Path) -> None:
    job = LiveJob(tmp_path / "run", (40, 50))
    job.save(0, 3, smooth(40, 50))
    job.finish()
    (tmp_path / "secret").write_text("secret")
    run = LiveRun(job.directory)
    for name in ("../secret", str(tmp_path / "secret"), "..", ".", "", "canvas/../../secret"):
        job.record |= {"picture": name}
        job.says("finished")
        assert run.status()["pictures"] == [], name
