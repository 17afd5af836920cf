"""Plan of a film: frames, size, memory, disk, and the time from a window that is measured just now."""

from __future__ import annotations

from render.config.film_schema import FilmJob
from render.film.film_draft import FilmNeeds
from render.film.film_run import OpenedFilm, check_disk, open_film
from render.film.rate import rate_text
from render.job.progress import duration_text
from render.planning.plan import size_text
from render.terminal.document import Document


def film_plan(job: FilmJob) -> Document:
    """Return the plan of a film; raise `UserError` for what cannot work. Nothing is dreamed or written."""
    if job.farm.address is None:
        # The inline executor has the same machine and kernels, and starts no Ray.
        job.farm.executor = "inline"
    film = open_film(job)
    needs = film.draft.needs()
    check_disk(film, needs)
    document = plan_document(film, needs, None if needs.dreams is None else needs.dreams.pace())
    for label, text in needs.lines:
        document.fact(label, text)
    document.values(notes=[f"{label}: {text}" for label, text in needs.lines])
    return document


def plan_document(film: OpenedFilm, needs: FilmNeeds, pace: float | None) -> Document:
    """Return the plan.

    Args:
        film: The film.
        needs: Needs of making its frames.
        pace: Floating-point operations a second of a worker's kernels; None if nothing is dreamed.
    """
    draft, settings = film.draft, film.file.settings
    rows, columns = draft.shape
    finished = min(film.directory.finished(), draft.frames)
    done = f", {finished} of them finished" if finished else ""
    document = Document("film-plan")
    document.sentence(f"{film.job.name}: {film.job.film.of} of {film.job.film.run or film.job.image}")
    document.values(name=film.job.name, of=film.job.film.of, source=str(film.job.film.run or film.job.image))
    document.fact(
        "frames", f"{draft.frames} of {columns} x {rows} px at {rate_text(draft.rate)} frames/s{done}",
        frames=draft.frames, finished_frames=finished, width_px=columns, height_px=rows,
        frames_per_second=float(draft.rate), film_seconds=float(draft.frames / draft.rate),
    )  # fmt: skip
    place = str(film.file.copy or film.file.path)
    document.fact(
        "file",
        f"{settings.format.name}, {settings.codec.name}, {settings.bits} bits, quality {settings.quality}: {place}",
        format=settings.format.name, codec=settings.codec.name, bits=settings.bits, quality=settings.quality, file=place,
    )  # fmt: skip
    document.fact("memory", size_text(needs.memory_bytes), memory_bytes=needs.memory_bytes)
    disk_bytes = film.disk_bytes(needs)
    document.fact(
        "disk",
        f"up to {size_text(disk_bytes)} in {film.directory.place}: pictures of {size_text(film.frame_bytes)} a frame at "
        f"most, canvases of {size_text(needs.canvas_bytes)}",
        disk_bytes=disk_bytes, directory=str(film.directory.place), frame_bytes=film.frame_bytes,
        canvas_bytes=needs.canvas_bytes,
    )  # fmt: skip
    _add_work(document, needs, pace, workers=film.job.farm.workers or 1, left=draft.frames - finished, is_new=not finished)
    return document


def _add_work(document: Document, needs: FilmNeeds, pace: float | None, *, workers: int, left: int, is_new: bool) -> None:
    """Add the arithmetic and the time of the frames that are left; nothing to show if nothing is dreamed."""
    flops = (needs.first_flops if is_new else 0) + max(0, left - is_new) * needs.later_flops
    seconds = flops / pace / workers if pace else None
    document.values(
        operations=flops, first_frame_operations=needs.first_flops, later_frame_operations=needs.later_flops,
        workers=workers, seconds=seconds,
    )  # fmt: skip
    if not (needs.first_flops or needs.later_flops):
        return
    document.fact(
        "arithmetic",
        f"{flops / 1e12:,.1f} TFLOP in convolutions: {needs.first_flops / 1e12:,.2f} for the first frame, "
        f"{needs.later_flops / 1e12:,.3f} for each later one",
    )
    if seconds is not None:
        farm = f", on {workers} workers" if workers > 1 else ""
        document.fact("time", f"about {duration_text(seconds, tenths=True)}, from what a window took just now{farm}")
