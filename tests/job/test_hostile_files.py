"""Files in a run directory that somebody sent: devices, pipes and links never hang a command or fill memory."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from render.config.compose import load_config
from render.config.schema import SourceConfig
from render.errors import UserError
from render.job.job import draft
from render.job.recorded_source import reopen_source
from render.job.run_download import LEDGER, Ledger
from render.networks.weights import check_sha256
from render.source.source import open_source
from render.storage.records import MAX_ITEMS, MalformedRecord, parse_record
from render.system.paths import file_sha256
from tests.conftest import ROOT, TINY, Finished, refusal, rendered

#: A regular file whose size is 0 and that goes on for many gigabytes.
ENDLESS = Path("/proc/self/pagemap")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered(tmp_path_factory.mktemp("sent") / "run", *TINY)


@pytest.fixture
def received(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def export(run: Path, *words: str) -> Finished:
    """Exports with 6 GB of address space at most, within 60 s."""

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))

    result = subprocess.run(
        [sys.executable, "-m", "render", "export", f"run={run}", *words],
        cwd=run.parent, env={**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""},
        capture_output=True, text=True, timeout=60, preexec_fn=bound, check=False,
    )  # fmt: skip
    return Finished(result.returncode, result.stdout, result.stderr)


def put(kind: str, path: Path) -> None:
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.symlink_to({"device": Path("/dev/zero"), "endless": ENDLESS}[kind])


@pytest.mark.parametrize("kind", ["device", "pipe", "endless", "large"])
def test_a_canvas_of_odd_files_is_refused(kind: str, received: Path) -> None:
    (chunk,) = received.glob("canvas/*/c/0/0/0")
    put(kind, chunk)
    export(received, "output.path=o.tif").refused("the canvas cannot be read")
    assert not (received.parent / "o.tif").exists()


@pytest.mark.parametrize("kind", ["device", "pipe", "large"])
def test_what_describes_a_canvas_is_a_file(kind: str, received: Path) -> None:
    (described,) = received.glob("canvas/*/zarr.json")
    put(kind, described)
    export(received, "output.path=o.tif").refused("canvas")


@pytest.mark.parametrize("kind", ["device", "pipe", "endless"])
def test_a_picture_that_is_no_file_is_not_read(kind: str, received: Path) -> None:
    put(kind, received / "preview.png")
    export(received, "output.format=png").refused("preview.png")


def test_a_file_without_end_is_not_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not ENDLESS.exists():
        pytest.skip("needs Linux's /proc")
    with pytest.raises(OSError, match="longer than it says"):
        file_sha256(ENDLESS)
    assert "longer than it says" in refusal(lambda: check_sha256(ENDLESS, "0" * 64))
    for key in ("image", "model.weights"):
        with pytest.raises(UserError, match="pagemap"):
            draft(load_config("preview", [*TINY, f"{key}={ENDLESS}"]))
    monkeypatch.chdir(tmp_path)
    config = load_config("preview", [*TINY, f"image={ENDLESS}"])
    assert reopen_source(config, "0" * 64, tmp_path / "levels") is None


def test_a_record_of_millions_of_items_is_not_taken_apart() -> None:
    content = b'{"junk": [' + b"[]," * MAX_ITEMS + b"[]]}"
    with pytest.raises(MalformedRecord, match="more than 6,000,000 items"):
        parse_record(content)
    points = [{"number": n, "label": "x", "at": [1, 2], "words": ["a=1"], "state": "done"} for n in range(100_000)]
    assert len(parse_record(json.dumps(points).encode())) == 100_000


def test_a_record_does_not_say_how_large_a_source_may_be(tmp_path: Path) -> None:
    # The header is enough: nothing behind it is to be decoded.
    Image.new("1", (64, 64)).save(tmp_path / "bomb.png")
    content = bytearray((tmp_path / "bomb.png").read_bytes())
    content[16:24] = struct.pack(">II", 70_000, 70_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(UserError, match=r"source\.max_megapixels=4000"):
        open_source(str(tmp_path / "bomb.png"), 0, SourceConfig())
    config = load_config("preview", [*TINY, f"image={tmp_path / 'bomb.png'}", "source.max_megapixels=1e9"])
    assert reopen_source(config, file_sha256(tmp_path / "bomb.png"), tmp_path / "levels") is None


def test_a_damaged_ledger_of_what_was_fetched_is_read_around(tmp_path: Path) -> None:
    for content in (b"[" * 200_000, b"\xff", b"[1]", b'{"a": 1}'):
        (tmp_path / LEDGER).write_bytes(content)
        assert not Ledger(tmp_path).is_untouched("a")
    (tmp_path / LEDGER).unlink()
    os.mkfifo(tmp_path / LEDGER)
    assert not Ledger(tmp_path).is_untouched("a")
