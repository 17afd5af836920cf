"""Plan of a render as a document: octaves, memory, disk, arithmetic and time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from render.job.job import Job
from render.job.program_report import ShapeState, shapes_text
from render.job.progress import duration_text
from render.job.resolve import ResolvedJob
from render.networks.weights import is_published
from render.planning.plan import Octave, Plan, size_text
from render.terminal.document import Column, Document, Table

_OCTAVE_COLUMNS = (
    Column("octave", lambda octave: str(octave["octave"]), is_number=True),
    Column("canvas px", lambda octave: f"{octave['width_px']} x {octave['height_px']}", is_number=True),
    Column("tiles", lambda octave: str(octave["tiles"]), is_number=True),
    Column("tile px", lambda octave: f"{octave['tile_width_px']} x {octave['tile_height_px']}", is_number=True),
    Column("window px", lambda octave: f"{octave['window_width_px']} x {octave['window_height_px']}", is_number=True),
    Column("halo work", lambda octave: f"x {octave['halo_work']:.2f}", is_number=True),
    Column("steps", lambda octave: str(octave["steps"]), is_number=True),
)
_TIME_COLUMN = Column("time", lambda octave: duration_text(octave["seconds"], tenths=True), is_number=True)


def plan_document(job: Job, window_seconds: float, shapes: Sequence[ShapeState] = ()) -> Document:
    """Return the plan with memory, disk and time.

    Args:
        job: The prepared job.
        window_seconds: Time of a window of the smallest octave, s.
        shapes: The plan's kernel shapes, if they are known.
    """
    plan, directory = job.plan, job.resolved.directory
    document = Document("render-plan")
    rate = plan.octaves[0].window_flops / window_seconds
    seconds = [octave.flops / rate for octave in plan.octaves]
    add_octaves(document, plan, job.resolved, seconds)
    halo = "exact" if plan.halo == plan.exact_halo else f"exact would be {plan.exact_halo} px: seams are possible"
    document.fact("halo", f"{plan.halo} px ({halo}), stride {plan.stride} px")
    document.values(halo_px=plan.halo, exact_halo_px=plan.exact_halo, stride_px=plan.stride)
    _add_weights(document, job)
    document.fact(
        "device", f"{job.device}, kernel {size_text(plan.kernel_bytes)}", device=job.device, kernel_bytes=plan.kernel_bytes
    )
    _add_shapes(document, shapes, len(plan.octaves))
    each = f", {size_text(plan.worker_bytes)} of it for each of {plan.workers} workers" if plan.workers > 1 else ""
    document.fact("memory", f"{size_text(plan.memory_bytes)} in all{each}", memory_bytes=plan.memory_bytes)
    document.values(workers=plan.workers, worker_bytes=plan.worker_bytes, scratch_bytes=plan.scratch_bytes)
    if plan.scratch_bytes:
        document.fact("scratch", f"{size_text(plan.scratch_bytes)} of mapped files: the canvas is larger than the memory")
    add_disk(document, plan, job.resolved)
    total = sum(seconds)
    megapixel_rate = plan.window_pixels / total / 1e6 if total else None
    pace = "" if megapixel_rate is None else f" at {megapixel_rate:.2f} Mpx/s"
    document.fact(
        "time", f"about {duration_text(total, tenths=True)}{pace}, from what a window took just now",
        seconds=total, megapixels_per_second=megapixel_rate,
    )  # fmt: skip
    pictures = [[str(directory.pictures.place(target)), *map(str, target.copies)] for target in directory.targets]
    for places in pictures:
        document.fact("picture", ", ".join(places))
    document.values(pictures=[place for places in pictures for place in places])
    return document


def add_octaves(document: Document, plan: Plan, job: ResolvedJob, seconds: Sequence[float] | None = None) -> None:
    """Add the octaves as a table, and the number of those left out.

    Args:
        document: The document.
        plan: The job's plan.
        job: The job.
        seconds: Time of each octave, if it is known, s.
    """
    document.values(name=job.name, model=job.network.name, objective=str(job.schedule), image=str(job.image))
    records = [
        _octave_record(octave) | ({} if seconds is None else {"seconds": seconds[octave.index]}) for octave in plan.octaves
    ]
    title = f"{job.name}: {job.schedule} of {job.network.name} on {job.image}"
    columns = _OCTAVE_COLUMNS if seconds is None else (*_OCTAVE_COLUMNS, _TIME_COLUMN)
    document.table(Table(title, columns, records), key="octaves")
    layers = ", ".join(job.schedule.layers)
    if job.has_auto_octaves:
        document.fact(
            "octaves",
            f"{len(plan.octaves)} (auto): the coarsest has {min(plan.octaves[0].shape)} px on its short side, "
            f"about what {layers} sees at once",
        )
    document.values(
        has_auto_octaves=job.has_auto_octaves, skipped_octaves=plan.skipped_octaves, useful_side_px=plan.useful_side
    )
    if plan.skipped_octaves:
        document.sentence(
            f"{plan.skipped_octaves} of {len(job.schedule.stages)} octaves left out: "
            f"their short side would be under {plan.useful_side} px, too small for {layers}"
        )


def add_disk(document: Document, plan: Plan, job: ResolvedJob) -> None:
    """Add the disk space of the run directory, and the arithmetic."""
    place = job.directory.place
    document.fact(
        "disk", f"up to {size_text(plan.disk_bytes)} in {place}", disk_bytes=plan.disk_bytes, directory=str(place)
    )
    document.fact("arithmetic", f"{plan.flops / 1e12:,.1f} TFLOP in convolutions", operations=plan.flops)


def _octave_record(octave: Octave) -> dict[str, Any]:
    """Return the values of an octave."""
    height, width = octave.shape
    rows, columns = octave.grid.window_shape
    tile_rows, tile_columns = octave.grid.core_shape
    return {
        "octave": octave.index + 1, "width_px": width, "height_px": height, "tiles": octave.grid.tiles,
        "tile_width_px": tile_columns, "tile_height_px": tile_rows, "window_width_px": columns, "window_height_px": rows,
        "halo_work": octave.step_window_pixels / octave.grid.canvas.area, "steps": octave.steps,
    }  # fmt: skip


def _add_weights(document: Document, job: Job) -> None:
    """Add which weights a job uses and where they are."""
    network, loaded = job.resolved.network, job.loaded
    published = is_published(loaded, network.model)
    origin = "the published ones" if published else "not the published ones"
    classes = loaded.architecture.classes
    named = f", named in {network.labels}" if network.labels is not None else ""
    class_text = f", {classes:,} classes{named}" if named or classes != network.model.architecture.classes else ""
    document.fact("weights", f"{loaded.file}, sha256 {loaded.sha256[:12]}: {origin}{class_text}")
    document.values(
        weights={
            "file": None if loaded.file is None else str(loaded.file), "sha256": loaded.sha256,
            "is_published": published, "classes": classes or 0,
        }
    )  # fmt: skip


def _add_shapes(document: Document, shapes: Sequence[ShapeState], octaves: int) -> None:
    """Add the kernel shapes, and what is still to be compiled."""
    document.values(
        kernels=[
            {
                "window_width_px": shape.window[1], "window_height_px": shape.window[0], "is_compiled": shape.is_ready,
                "compile_seconds": shape.seconds,
            }
            for shape in shapes
        ]
    )  # fmt: skip
    if shapes:
        document.fact("kernels", shapes_text(shapes, octaves))
