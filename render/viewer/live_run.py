"""Reader of a run directory for the viewer: progress, and tiles of the newest checkpoint.

Tiles are cut from the canvas store on request. The render may replace a canvas at any moment, but removes it from its
manifest first. So pixels are valid only if the manifest still names their canvas after they have been read.
"""

from __future__ import annotations

import io
import shlex
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from render.canvas.image import to_integers
from render.canvas.store import CanvasStore
from render.config.compose import recorded_config
from render.config.formats import DREAM, SMALL_PICTURES, SOURCE
from render.dreaming.resample import Pixels, resample
from render.errors import DamagedCheckpoint, RenderError, UserError
from render.farm.checkpoint import Checkpoint
from render.geometry.geometry import Rect
from render.job.recorded_source import reopen_source
from render.job.run_directory import stored_checkpoints
from render.job.run_record import missing_record_message, planned_steps, read_record, read_run
from render.job.targets import preview_path
from render.pages.run_facts import facts_of
from render.pages.zoom_levels import Pyramid
from render.pages.zoom_page import PAGE, page
from render.source.source import MAX_IN_MEMORY_PX, Source
from render.sweeps.monitor.sweep_record import read_sweep
from render.viewer.open_part import OpenPart
from render.viewer.run_news import finished_pictures, newest_progress, opened_picture, progress_words
from render.viewer.shrink import shrink_rect
from render.viewer.tile_proof import GAMUT, PROOF, TileProof

#: Most canvas pixels that are read for one tile; tiles that need more are cut from the run's preview.
MAX_PIXELS = 4096 * 4096

_STATUS, _POLL_MS = "status.json", 5000
_MAX_CACHE_BYTES = 64 << 20
_JPEG_QUALITY = 92
#: Most tiles that are cut at once: each may hold a band of the canvas in memory.
_MAX_READERS = 2


class NoTile(RenderError):
    """A tile that does not exist, or whose checkpoint has been replaced by a newer one."""


class LiveRun:
    """Reader of one run directory for the viewer. Safe for any number of threads."""

    def __init__(self, directory: Path, proof: TileProof | None = None) -> None:
        """Open a run directory, with a soft proof to show beside it. Raise `UserError` if `directory` is not one."""
        if not directory.is_dir():
            raise UserError(f"run={directory}: there is no such directory")
        reading = read_run(directory)
        self._record = reading.record
        if not self._record and read_sweep(directory):
            raise UserError(f"run={directory} is a sweep: open its {PAGE}, or view one of its points/")
        if not self._record and not reading.damage:
            raise UserError(f"run={directory} is no run directory: it has no run.json that a render wrote")
        if not self._record:
            raise UserError(missing_record_message(directory, reading))
        self._directory = directory
        self._proof = proof
        self._checkpoints = stored_checkpoints(directory)
        self._source = _open_source(self._record, directory / "source")
        self._cache = _Cache(_MAX_CACHE_BYTES)
        self._readers = threading.Semaphore(_MAX_READERS)

    def page(self) -> str:
        """Return the HTML of the viewer's page for this run."""
        live = {"status": _STATUS, "every": _POLL_MS, "run": shlex.quote(str(self._directory))}
        return page(facts_of(self._newest_record()), {}, live)

    def status(self) -> dict[str, Any]:
        """Return what the page polls: progress, addresses of the newest tiles, and the pictures that can be downloaded.

        `progress` has the share of the work that is done, 0..1, and the seconds left, None if unknown; it is None if the
        run does not report any.
        """
        record = self._newest_record()
        state = str(record.get("status", "running"))
        progress = newest_progress(self._directory) if state == "running" else None
        status: dict[str, Any] = {
            "state": state,
            "version": None,
            "images": {},
            "waiting": "",
            "progress": None if progress is None else {"share": progress.share, "left": progress.left},
            "pictures": [{"name": name, "size": size} for name, size in finished_pictures(self._directory, record)],
        }
        try:
            newest = next(iter(self._newest()), None)
        except UserError as error:
            return status | {"state": "failed", "words": "the checkpoint cannot be read", "waiting": str(error)}
        if newest is None:
            waiting = "No checkpoint yet: the picture appears here as soon as the render has saved its first."
            if state in ("failed", "interrupted"):
                waiting = f"The run was {state} before its first checkpoint: the same render command goes on with it."
            words = "waiting for the first checkpoint"
            return status | {"words": progress_words(progress, words) if progress else words, "waiting": waiting}
        pyramid, version = _pyramid(newest), self._version(newest)
        stems = [DREAM, *([] if self._source is None else [SOURCE]), *([] if self._proof is None else [PROOF, GAMUT])]
        images = {stem: pyramid.descriptor(f"{stem}/{version}_files/", "jpg") for stem in stems}
        words = _words(state, newest, record)
        if progress is not None:
            words = progress_words(progress, newest.saved_at("saved %H:%M:%S"))
        return status | {"version": version, "images": images, "words": words}

    def picture(self, number: int) -> OpenPart:
        """Return the finished picture with a number in the `pictures` of `status`. Raise `NoSuchPart` if there is none."""
        return opened_picture(self._directory, self._newest_record(), number)

    def tile(self, picture: str, version: str, level: int, row: int, column: int) -> bytes:
        """Return a JPEG tile of the dream, of its source, or of its soft proof.

        Args:
            picture: `dream`, `source`, `proof` or `gamut`.
            version: the `version` of `status`, which names the checkpoint.
            level: level of the pyramid.
            row: row of the tile.
            column: column of the tile.

        Raises:
            NoTile: if there is no such tile.
            DamagedCheckpoint: if its pixels cannot be read at the moment.
        """
        key, token = (picture, version, level, row, column), version.partition("-")[0]
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        checkpoint = self._checkpoint(token)
        pyramid = _pyramid(checkpoint)
        if not pyramid.has(level, row, column):
            raise NoTile(f"a picture of {pyramid.width} x {pyramid.height} px has no such tile")
        rect = pyramid.rect(level, row, column)
        try:
            with self._readers:
                pixels = self._read(picture, checkpoint, pyramid, level, rect)
        finally:
            # If the manifest no longer names the canvas, its files may be half replaced: that error goes first.
            self._checkpoint(token)
        content = _jpeg(pixels)
        self._cache.put(key, content)
        return content

    def _newest_record(self) -> dict[str, Any]:
        # A run that starts over has no record for a moment.
        self._record = read_record(self._directory) or self._record
        return self._record

    def _newest(self) -> list[Checkpoint]:
        reading = self._checkpoints.read()
        return [checkpoint for checkpoint in reading[1] if checkpoint.has_history] if reading else []

    def _checkpoint(self, token: str) -> Checkpoint:
        """Return the checkpoint with a token. Raise `NoTile` if a newer one has replaced it."""
        try:
            checkpoints = [checkpoint for checkpoint in self._newest() if checkpoint.token == token]
        except UserError as error:
            raise DamagedCheckpoint(str(error)) from None
        if not checkpoints:
            raise NoTile("another checkpoint has taken its place")
        return checkpoints[0]

    def _read(self, picture: str, checkpoint: Checkpoint, pyramid: Pyramid, level: int, rect: Rect) -> Pixels:
        if picture in (PROOF, GAMUT):
            if self._proof is None:
                raise NoTile("no profile was named for a soft proof")
            return self._proof.pixels(picture, self._dream_pixels(checkpoint, pyramid, level, rect))
        if picture != SOURCE:
            return self._dream_pixels(checkpoint, pyramid, level, rect)
        if self._source is None:
            raise NoTile("the source is not here")
        return self._source.at(pyramid.shape(level), rect)

    def _dream_pixels(self, checkpoint: Checkpoint, pyramid: Pyramid, level: int, rect: Rect) -> Pixels:
        if pyramid.covered(level, rect).area > MAX_PIXELS:
            path = self._preview(checkpoint)
            preview = None if path is None else _decoded(path)
            if preview is not None:
                return _enlarged(preview, pyramid.shape(level), rect)
        # If somebody has removed the preview, read the canvas itself: slow, but right.
        store = CanvasStore(self._checkpoints.path(checkpoint), token=checkpoint.token)
        if store.shape != (pyramid.height, pyramid.width):
            raise DamagedCheckpoint(f"canvas {checkpoint.token} has not the size that the manifest says")
        return shrink_rect(store.read, store.shape, rect, pyramid.shrink(level))

    def _preview(self, checkpoint: Checkpoint) -> Path | None:
        """Return the path of the preview of the last finished octave; None if there is none."""
        paths = (preview_path(self._directory, octave) for octave in range(checkpoint.octave, -1, -1))
        return next((path for path in paths if path.is_file() and not path.is_symlink()), None)

    def _version(self, checkpoint: Checkpoint) -> str:
        """Return text that changes when any tile does.

        Tiles cut from the preview change when a newer preview appears.
        """
        pyramid, stamp = _pyramid(checkpoint), 0
        preview = self._preview(checkpoint)
        if preview is not None and pyramid.height * pyramid.width > MAX_PIXELS:
            with suppress(OSError):
                stamp = preview.stat().st_mtime_ns
        return f"{checkpoint.token}-{stamp:x}"


def _decoded(path: Path) -> Pixels | None:
    try:
        with Image.open(path, formats=SMALL_PICTURES) as picture:
            return np.asarray(picture.convert("RGB"), np.float32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _enlarged(preview: Pixels, shape: tuple[int, int], rect: Rect) -> Pixels:
    return resample(lambda part: preview[slice(*part.rows), slice(*part.columns)], preview.shape[:2], shape, rect)


def _jpeg(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(to_integers(pixels, 8)).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling="4:4:4")
    return file.getvalue()


def _pyramid(checkpoint: Checkpoint) -> Pyramid:
    octave = checkpoint.history[checkpoint.octave]
    return Pyramid(octave.height, octave.width)


def _words(state: str, newest: Checkpoint, record: Mapping[str, Any]) -> str:
    """Return a short text: the run's state, and at which step it was last saved."""
    step_counts = planned_steps(record)
    steps = step_counts[newest.octave] if newest.octave < len(step_counts) else newest.steps
    words = f"octave {newest.octave + 1} of {len(step_counts)}, step {newest.steps} of {steps}"
    if state == "finished":
        return "finished"
    saved = newest.saved_at("saved %H:%M:%S")
    return f"{words}, {saved}" if state == "running" else f"{state} after {words}"


def _open_source(record: Mapping[str, Any], levels: Path) -> Source | None:
    """Return the source that the run dreams from.

    None if it is missing, has changed, is not on a disk of this machine, or is too large for memory.
    """
    try:
        config = recorded_config(record["config"], [], ())
    except UserError:
        return None
    config.source.max_megapixels = min(config.source.max_megapixels, MAX_IN_MEMORY_PX / 1e6)
    return reopen_source(config, record.get("image_sha256"), levels)


class _Cache:
    """Least-recently-used cache of tiles, limited to `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._tiles: OrderedDict[tuple, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple) -> bytes | None:
        """Return a tile, which is then the last to be dropped; None if it is not here."""
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
            return self._tiles.get(key)

    def put(self, key: tuple, tile: bytes) -> None:
        """Keep a tile, and drop those that were not used for longest."""
        with self._lock:
            self._held_bytes += len(tile) - len(self._tiles.pop(key, b""))
            self._tiles[key] = tile
            while self._held_bytes > self._max_bytes:
                self._held_bytes -= len(self._tiles.popitem(last=False)[1])
