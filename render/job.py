"""One dream job from its config to its picture: config -> plan -> conductor -> workers -> picture."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np
import psutil

from render import __version__, interrupts
from render.canvas.picture import to_bytes, write_picture
from render.canvas.source import Source, open_source
from render.config import Config, picture_format
from render.dream.kernel import Kernel, KernelShape
from render.dream.objectives import Objective, resolve
from render.errors import UserError
from render.farm.conductor import Conductor, OctaveDone, OctaveStarted, StepDone
from render.farm.executors import InlineExecutor
from render.farm.worker import Worker
from render.geometry import BOUNDARY_MODES
from render.models.network import Network
from render.models.weights import Loaded, find_model, load
from render.paths import cache_directory, file_sha256, user_path
from render.plan import Machine, Plan, make_plan
from render.progress import Display, make_display
from render.run_directory import RunDirectory, free_disk

log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 1024
#: What the process takes before it holds a canvas, measured; for plans made before weights are loaded.
_PROGRAM_BYTES = 450_000_000


@dataclass(frozen=True)
class Draft:
    """A job whose words have been checked, before weights are loaded: `plan` rests on an estimate of the memory."""

    config: Config
    source: Source
    objective: Objective
    directory: RunDirectory
    plan: Plan
    begun: float


@dataclass(frozen=True)
class Job:
    """A job that has passed every check, loaded and compiled: ready to run."""

    config: Config
    source: Source
    objective: Objective
    directory: RunDirectory
    loaded: Loaded
    kernel: Kernel
    plan: Plan
    begun: float


def draft(config: Config) -> Draft:
    """Opens the source, resolves the objective and plans; raises `UserError` for what cannot work."""
    begun = time.perf_counter()
    model = find_model(config.model.name)
    terms = config.objective.terms
    objective = resolve(model.default_terms if terms is None else terms, model.architecture)
    local = _local_weights(config)
    source = open_source(config.image, config.seed, config.source, BOUNDARY_MODES[config.boundary.mode])
    directory = RunDirectory(
        config,
        {
            "image content": source.sha256,
            "weights content": file_sha256(local) if local else None,
            "objective": str(objective),
            "program": __version__,
        },
    )
    held = source.nbytes + _PROGRAM_BYTES
    plan = make_plan(config, model.architecture, objective.layers, source.size, held, this_machine(directory.path))
    return Draft(config, source, objective, directory, plan, begun)


def prepare(draft: Draft) -> Job:
    """Loads the weights, compiles the largest window and plans with what XLA says it needs. Raises `UserError`."""
    config, source, objective = draft.config, draft.source, draft.objective
    loaded = load(config.model.name, _local_weights(config), config.model.sha256)
    kernel = make_kernel(loaded, objective)
    plan = make_plan(
        config,
        loaded.architecture,
        objective.layers,
        source.size,
        # By now the process holds the program, the weights and the source.
        psutil.Process().memory_info().rss,
        this_machine(draft.directory.path),
        lambda window, core: kernel.memory(KernelShape(window, core)),
    )
    return Job(config, source, objective, draft.directory, loaded, kernel, plan, draft.begun)


def _local_weights(config: Config) -> Path | None:
    if config.model.weights is None:
        return None
    path = user_path(config.model.weights, "model.weights")
    if not path.is_file():
        raise UserError(f"model.weights={path}: there is no such file")
    return path


def make_kernel(loaded: Loaded, objective: Objective) -> Kernel:
    """The kernel of an objective on a network that stops at the deepest layer it needs."""
    return Kernel(Network(loaded.architecture.truncated(objective.layers), loaded.parameters), objective)


def render(job: Job) -> Path:
    """Dreams the job's picture and writes it; returns its path."""
    with job.directory.opened():
        display = make_display(job.plan, quiet=job.config.quiet)
        try:
            return _render(job, display)
        finally:
            display.close()


def _render(job: Job, display: Display) -> Path:
    config, directory, plan = job.config, job.directory, job.plan
    prepared = time.perf_counter()
    log.info("rendering %s: %s of %s on %s", directory.picture, job.objective, config.model.name, device_name())
    directory.start_record(
        device=device_name(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        image_sha256=job.source.sha256,
        objective=str(job.objective),
        weights_sha256=job.loaded.sha256,
        plan=asdict(plan),
    )

    def tile_done(window_pixels: int) -> None:
        display.tile_done(window_pixels)
        interrupts.check()

    executor = InlineExecutor(lambda: Worker(job.kernel, job.source, tile_done), config.farm.workers)
    conductor = Conductor(plan, job.loaded.architecture, job.objective, executor)
    octaves: list[dict[str, object]] = []
    gradients: list[float] = []
    seconds: list[float] = []
    for event in conductor.run(config.seed, config.step_size):
        match event:
            case OctaveStarted():
                display.octave_started(event.octave)
                gradients, seconds = [], []
            case StepDone():
                display.step_done(event.step)
                gradients.append(event.mean_gradient)
                seconds.append(round(event.seconds, 4))
                log.info(
                    "octave %d step %d: mean|g| %.6g in %.2f s",
                    event.octave.index + 1, event.step + 1, event.mean_gradient, event.seconds,
                )  # fmt: skip
            case OctaveDone():
                height, width = event.octave.shape
                octaves.append({"height": height, "width": width, "mean_gradient": gradients, "seconds": seconds})
                directory.write_preview(event.octave.index, event.preview())
                directory.save(octaves=octaves)
    dreamed = time.perf_counter()
    write_picture(
        directory.picture,
        _collect(conductor, plan.final.shape),
        picture_format(config.output),
        picture_settings(job),
        dpi=config.output.dpi,
        quality=config.output.quality,
    )
    executor.close()
    ended = time.perf_counter()
    compiling = sum(job.kernel.compile_seconds.values())
    timings = {
        "prepare": prepared - job.begun,
        "compile": compiling,
        "dream": dreamed - prepared,
        "total": ended - job.begun,
    }
    directory.finish(seconds={name: round(seconds, 3) for name, seconds in timings.items()})
    log.info("finished in %.1f s: %s", timings["total"], directory.picture)
    return directory.publish()


def picture_settings(job: Job) -> dict[str, object]:
    """What the picture's metadata says about how it was made."""
    return {
        **job.config.picture_settings(),
        "dreamed": str(job.objective),
        "image_sha256": job.source.sha256,
        "weights_sha256": job.loaded.sha256,
    }


def _collect(conductor: Conductor, shape: tuple[int, int]) -> np.ndarray:
    """The finished canvas as (height, width, 3) uint8, gathered by rows."""
    height, width = shape
    picture = np.empty((height, width, 3), np.uint8)
    for start in range(0, height, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, height)
        picture[start:stop] = to_bytes(conductor.read_rows(start, stop))
    return picture


def calibrate(job: Job) -> float:
    """Window pixels per second of the kernel on this machine, from two calls on the smallest octave's window."""
    octave = job.plan.octaves[0]
    shape = KernelShape.of(octave.grid)
    window = np.full((*shape.window, 3), 128, np.float32) + np.random.default_rng(0).normal(
        0, 30, (*shape.window, 3)
    ).astype(np.float32)
    divisors = job.objective.divisors(job.loaded.architecture, octave.grid.extended_shape)
    job.kernel(shape, window, divisors, (0, 0)).block_until_ready()
    start = time.perf_counter()
    for _ in range(2):
        job.kernel(shape, window, divisors, (0, 0)).block_until_ready()
    return 2 * shape.window[0] * shape.window[1] / (time.perf_counter() - start)


def this_machine(run_directory: Path) -> Machine:
    """Memory of this host and its accelerator, and free disk under the run directory."""
    host = psutil.virtual_memory().total
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists():
        text = limit.read_text().strip()
        host = min(host, int(text)) if text.isdigit() else host
    device = jax.local_devices()[0]
    on_cpu = device.platform == "cpu"
    memory = host if on_cpu else int((device.memory_stats() or {}).get("bytes_limit", host))
    return Machine(host, memory, free_disk(run_directory.absolute()), str(run_directory), shares_memory=on_cpu)


def device_name() -> str:
    """The accelerator that kernels run on, such as `cpu` or `NVIDIA H200`."""
    return jax.local_devices()[0].device_kind


def use_compilation_cache() -> None:
    """Keeps compiled kernels in the user's cache, however quickly they compile."""
    jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "kernels"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
