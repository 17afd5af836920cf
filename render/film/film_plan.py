"""Plan of a film: frames, size, memory, disk, and the time from a window that is measured just now."""

from __future__ import annotations

from render.config.film_schema import FilmJob
from render.film.film_draft import FilmNeeds
from render.film.film_run import OpenedFilm, check_disk, open_film
from render.film.rate import rate_text
from render.job.progress import duration_text
from render.planning.plan import size_text
from render.terminal.lines import print_lines


def print_film_plan(job: FilmJob) -> None:
    """Print the plan of a film; raise `UserError` for what cannot work. Nothing is dreamed or written."""
    if job.farm.address is None:
        # The inline executor has the same machine and kernels, and starts no Ray.
        job.farm.executor = "inline"
    film = open_film(job)
    needs = film.draft.needs()
    check_disk(film, needs)
    lines = plan_lines(film, needs, None if needs.dreams is None else needs.dreams.pace())
    print_lines(*lines, *(f"{name:12} {text}" for name, text in needs.lines))


def plan_lines(film: OpenedFilm, needs: FilmNeeds, pace: float | None) -> list[str]:
    """Return the plan as lines of text.

    Args:
        film: The film.
        needs: Needs of making its frames.
        pace: Floating-point operations a second of a worker's kernels; None if nothing is dreamed.
    """
    draft, settings = film.draft, film.file.settings
    rows, columns = draft.shape
    finished = min(film.directory.finished(), draft.frames)
    done = f", {finished} of them finished" if finished else ""
    lines = [
        f"{film.job.name}: {film.job.film.of} of {film.job.film.run or film.job.image}",
        f"frames       {draft.frames} of {columns} x {rows} px at {rate_text(draft.rate)} frames/s{done}",
        f"file         {settings.format.name}, {settings.codec.name}, {settings.bits} bits, quality {settings.quality}: "
        f"{film.file.copy or film.file.path}",
        f"memory       {size_text(needs.memory_bytes)}",
        f"disk         up to {size_text(film.disk_bytes(needs))} in {film.directory.place}: pictures of "
        f"{size_text(film.frame_bytes)} a frame at most, canvases of {size_text(needs.canvas_bytes)}",
    ]
    if needs.first_flops or needs.later_flops:
        left = draft.frames - finished
        flops = (needs.first_flops if not finished else 0) + max(0, left - (not finished)) * needs.later_flops
        lines.append(
            f"arithmetic   {flops / 1e12:,.1f} TFLOP in convolutions: {needs.first_flops / 1e12:,.2f} for the first frame, "
            f"{needs.later_flops / 1e12:,.3f} for each later one"
        )
        workers = film.job.farm.workers or 1
        if pace:
            lines.append(
                f"time         about {duration_text(flops / pace / workers)}, from what a window took just now"
                + (f", on {workers} workers" if workers > 1 else "")
            )
    return lines
