"""A whole film as the command line asks for it: begun, continued, made longer, or only encoded anew."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyvips

from render.config.film_schema import FilmJob
from render.config.film_validation import DREAMED
from render.config.schema import Config
from render.errors import RenderError, StorageError, UserError
from render.farm.farms import Farm, chosen_executor
from render.farm.ray.metrics import Metrics, NoMetrics, open_metrics
from render.film.film_directory import FilmDirectory, film_digest, film_place
from render.film.film_draft import FilmDraft, FilmNeeds, FilmSurroundings
from render.film.film_file import FilmFile, video_settings
from render.film.film_parts import MAX_WAITING, SEGMENT_FRAMES, SegmentEncoder
from render.film.film_progress import FilmDisplay
from render.film.film_report import FilmReport
from render.film.film_state import read_state
from render.film.makers import draft_film
from render.film.rate import parse_rate, rate_text
from render.job.progress import duration_text, say
from render.job.targets import PREVIEWS
from render.networks.weights import Loaded
from render.planning.plan import size_text
from render.storage.url import Place
from render.system import interrupts
from render.system.logs import is_cluster_job
from render.system.machine import free_disk, nearest
from render.system.version import package_version

log = logging.getLogger(__name__)

#: Name, longest side (px) and least interval (s) of the small picture of the newest frame.
PREVIEW, _PREVIEW_SIDE, _PREVIEW_EVERY_S = "frame.png", 480, 2.0
#: Bytes of a pixel of 8 bits a channel, of which dreams compress little, and the share of them that the file takes.
_PICTURE_BYTES, _FILE_SHARE = 3, 0.5
#: Length under which tenths of a second are told, s.
_EXACT_S = 60
#: Packages whose versions are recorded beside those of a picture: they decide the bytes of frames and files.
_FILM_PACKAGES = ("av", "opencv-python-headless")


@dataclass(frozen=True)
class FilmWorkers:
    """Workers that several films share.

    Attributes:
        farm: Farm to lease them from; None: a film that dreams opens one.
        loaded: The film's weights, if a farm is given and they are loaded already.
        check: Called between frames; raises KeyboardInterrupt on a request to stop.
    """

    farm: Farm | None = None
    loaded: Loaded | None = None
    check: Callable[[], None] = interrupts.check


@dataclass(frozen=True)
class OpenedFilm:
    """A resolved film with its place and file.

    Attributes:
        job: Its config.
        draft: The film.
        directory: Its directory.
        file: The file that it becomes.
        begun: Time of `time.perf_counter` when the job began, s.
    """

    job: FilmJob
    draft: FilmDraft
    directory: FilmDirectory
    file: FilmFile
    begun: float

    @property
    def frame_bytes(self) -> int:
        """Largest disk space of a frame's picture, bytes."""
        rows, columns = self.draft.shape
        return rows * columns * _PICTURE_BYTES * (1 if self.job.film.bits == 8 else 2)

    def moved(self, path: Path) -> OpenedFilm:
        """Return the same film in another directory."""
        job = replace(self.job, output=replace(self.job.output, dir=str(path)))
        config = replace(self.draft.config, output=job.output)
        directory = FilmDirectory(config, job.film, self.draft.identity, self.directory.digest)
        return OpenedFilm(job, self.draft, directory, FilmFile(job, self.draft, directory, self.file.settings), self.begun)

    def check(self) -> None:
        """Raise `UserError` if the film would replace something that no film wrote, or cannot be written."""
        self.directory.check()
        self.file.check()

    def disk_bytes(self, needs: FilmNeeds) -> int:
        """Return the most disk space that the rest of the film takes, bytes."""
        left = max(0, self.draft.frames - self.directory.finished())
        file_bytes = round(_FILE_SHARE * self.frame_bytes * self.draft.frames)
        pictures = min(left, (MAX_WAITING + 2) * SEGMENT_FRAMES) if self.file.removes_pictures else left
        return pictures * self.frame_bytes + file_bytes + (needs.canvas_bytes if left else 0)


def open_film(job: FilmJob) -> OpenedFilm:
    """Resolve and check a film; nothing is started or written.

    Raises:
        UserError: The film cannot work, or would replace something that no film wrote.
    """
    film = resolve_film(job)
    film.check()
    return film


def resolve_film(job: FilmJob) -> OpenedFilm:
    """Resolve a film without a look at its directory; raise `UserError` if it cannot work."""
    begun = time.perf_counter()
    if job.film.rate is not None:
        parse_rate(job.film.rate)

    def place_of(config: Config, identity: Mapping[str, str | None]) -> Place:
        return film_place(config, _digest(job, config, identity, draft=None))

    draft = draft_film(job, place_of)
    digest = _digest(job, draft.config, draft.identity, draft)
    directory = FilmDirectory(draft.config, job.film, draft.identity, digest)
    film_file = FilmFile(job, draft, directory, video_settings(job, draft))
    return OpenedFilm(job, draft, directory, film_file, begun)


def _digest(job: FilmJob, config: Config, identity: Mapping[str, str | None], draft: FilmDraft | None) -> str:
    """Return the film's digest; the makers of dreamed films ask for its place before they are drafted."""
    from render.film.zoom_film import zoom_length

    if job.film.of == "zoom":
        rate, frames = zoom_length(job)
    else:
        rate = draft.rate if draft is not None else parse_rate(job.film.rate or 24)
        frames = draft.frames if draft is not None else 0
        if draft is None or draft.timing is not None:
            # Times of footage follow from its content, which is part of the identity.
            rate = parse_rate(job.film.rate or 1)
    return film_digest(config, job.film, rate, identity, frames if job.film.loop else None)


def check_disk(film: OpenedFilm, needs: FilmNeeds) -> None:
    """Raise `UserError` if the disk is too small for the film."""
    needed, place = film.disk_bytes(needs), nearest(film.directory.path)
    free = free_disk(place)
    if needed > free:
        raise UserError(
            f"the film needs up to {size_text(needed)} in {film.directory.place} and {size_text(free)} are free: set a "
            "smaller output.width or film.seconds, or another output.dir"
        )


def make_film(job: FilmJob) -> list[Place]:
    """Make a film, or continue it, and write its file; return its places, `output.path` first. See `make_opened_film`."""
    return make_opened_film(open_film(job), FilmWorkers())


def make_opened_film(film: OpenedFilm, workers: FilmWorkers) -> list[Place]:
    """Make a checked film, or continue it, and write its file; return its places, `output.path` first.

    Raises:
        RenderError: The film cannot work, or it stopped; the message says from which frame the same command goes on.
        KeyboardInterrupt: The user stopped it; finished frames are on disk.
    """
    job = film.job
    directory, frames, quiet = film.directory, film.draft.frames, job.quiet
    finished = min(directory.finished(), frames)
    directory.run.refuse_busy()
    if finished < frames:
        check_disk(film, film.draft.needs())
    say(_summary(film, finished), quiet=quiet)
    with directory.opened():
        directory.run.start_record(
            film=asdict(job.film),
            frames=frames,
            shape=list(film.draft.shape),
            rate=str(film.draft.rate),
        )
        versions = {name: package_version(name) for name in _FILM_PACKAGES}
        directory.run.save(versions=directory.run.record["versions"] | versions)
        with _resumable(directory, frames), interrupts.deferred(quiet=quiet):
            if finished < frames:
                _make_frames(film, finished, workers)
            framed = time.perf_counter()
            directory.note_length(max(frames, _stored_length(directory)))
            say("writing the film", quiet=quiet)
            places = film.file.write(removes=film.file.removes_pictures and finished < frames)
            directory.remove_levels()
        seconds = time.perf_counter() - film.begun
        timings = {"frames": framed - film.begun, "file": seconds - (framed - film.begun), "total": seconds}
        directory.run.save(
            status="finished",
            seconds={name: round(value, 3) for name, value in timings.items()},
            film_file=film.file.path.name,
        )
        log.info("finished in %.1f s: %s", seconds, ", ".join(map(str, places)))
    say(
        f"finished in {duration_text(seconds, tenths=True)}; film directory {directory.place}",
        *map(str, places),
        quiet=quiet,
    )
    return places


@contextmanager
def _resumable(directory: FilmDirectory, frames: int) -> Iterator[None]:
    """Say in errors of this context from which frame the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {_resume_hint(directory, frames)}") from None
    except StorageError as error:
        raise StorageError(f"{error} (then the same command goes on from what was saved)") from None
    except RenderError as error:
        raise type(error)(f"{error} ({_resume_hint(directory, frames)})") from None


def _stored_length(directory: FilmDirectory) -> int:
    state = read_state(directory.place)
    return state.frames if state is not None and state.digest == directory.digest else 0


def _make_frames(film: OpenedFilm, finished: int, workers: FilmWorkers) -> None:
    """Make the frames from `finished` on, each picture on disk before the next is made; encode whole parts beside."""
    directory, frames, home = film.directory, film.draft.frames, film.directory.run.home
    is_quiet = film.job.quiet or (film.job.log == "json" and is_cluster_job())
    report = FilmReport(home, FilmDisplay(home, finished, frames, quiet=is_quiet))
    encoder = SegmentEncoder(film.file.parts, removes=film.file.removes_pictures)
    surroundings = FilmSurroundings(
        place=directory.absolute_place,
        digest=directory.digest,
        begun=film.begun,
        confirm=home.confirm_held,
        on_event=report.event,
        tell=report.say,
        on_ahead=report.ahead,
        farm=workers.farm,
        loaded=workers.loaded,
    )
    failed, preview_at = True, 0.0
    try:
        encoder.catch_up(finished)
        with film.draft.opened(surroundings) as maker, report.published(_metrics(film)):
            for frame in maker.make(finished, frames):
                path = directory.picture(frame.number)
                path.parent.mkdir(parents=True, exist_ok=True)
                frame.write(path)
                home.confirm_held()
                directory.store_frame(frame.number, frames)
                log.info("frame %d of %d", frame.number + 1, frames)
                report.finished(frame.number)
                if time.monotonic() - preview_at > _PREVIEW_EVERY_S or frame.number + 1 == frames:
                    preview_at = time.monotonic()
                    _write_preview(directory, path)
                # The last use of the picture: once its part is encoded, it may be removed.
                encoder.frame_finished(frame.number)
                if frame.number + 1 < frames:
                    workers.check()
        failed = False
    finally:
        report.close()
        encoder.close(failed=failed)


def _metrics(film: OpenedFilm) -> Metrics | NoMetrics:
    """Return the metrics of a film whose farm has started."""
    farm = film.draft.config.farm
    if film.job.film.of not in DREAMED:
        return NoMetrics()
    return open_metrics(replace(farm, executor=chosen_executor(farm)), film.directory.run.run_id)


def _write_preview(directory: FilmDirectory, picture: Path) -> None:
    """Write a small picture of the newest frame to `previews/frame.png`; it only informs, so failures are logged."""
    from render.storage.local import write_durably

    try:
        thumbnail = pyvips.Image.thumbnail(str(picture), _PREVIEW_SIDE, size="down")
        write_durably(directory.path / PREVIEWS / PREVIEW, thumbnail.write_to_buffer(".png"))
    except (OSError, pyvips.Error) as error:
        log.warning("no preview of %s: %s", picture.name, error)
    else:
        directory.run.home.store(f"{PREVIEWS}/{PREVIEW}")


def _summary(film: OpenedFilm, finished: int) -> str:
    """Return one line about the film that is about to be made."""
    rows, columns = film.draft.shape
    frames, settings = film.draft.frames, film.file.settings
    begin = "" if not finished else f", {finished} of them finished" if finished < frames else ", all finished"
    seconds = float(frames / film.draft.rate)
    length = f"{seconds:.3g} s" if seconds < _EXACT_S else duration_text(seconds)
    return (
        f"{film.job.film.of} of {film.job.film.run or film.job.image}: {frames} frames of {columns} x {rows} px{begin}, "
        f"{length} at {rate_text(film.draft.rate)} frames/s, {settings.format.name} {settings.codec.name}"
    )


def _resume_hint(directory: FilmDirectory, frames: int) -> str:
    state = read_state(directory.place)
    finished = state.finished if state is not None and state.digest == directory.digest else 0
    if not finished:
        return "no frame is finished yet; the same command goes on"
    if finished >= frames:
        return "all frames are finished; the same command writes the film"
    return f"{finished} of {frames} frames are finished; the same command goes on from frame {finished + 1}"
