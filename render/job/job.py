"""One dream job from its config to its pictures: config -> plan -> conductor -> workers -> pictures."""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from render.canvas import store
from render.config.schema import Config, SourceConfig
from render.errors import Overtaken, RenderError, StorageError, UserError, WorkersLost
from render.export.profile import Profile
from render.farm.checkpoint import ResumeKey
from render.farm.conductor import BlockOptions, Conductor, Saving, filter_bytes_exchanged
from render.farm.events import Noticed, OctaveDone, OctaveStarted, Recovered, Saved, StepDone, TilesDone
from render.farm.executors import Executor
from render.farm.farms import Farm, open_farm
from render.farm.messages import WorkerFacts
from render.farm.ray.metrics import Metrics, NoMetrics, open_metrics
from render.farm.remote import Workers
from render.farm.worker.interface import RemoteProcess
from render.farm.worker.kernel_recipe import KernelRecipe
from render.geometry.blocks import deal_blocks
from render.geometry.geometry import BAND, BOUNDARY_MODES
from render.job.materials import Library
from render.job.pictures import cut_for, make_pictures, usable_profile
from render.job.progress import Display, Displays, make_display, say
from render.job.progress_file import ProgressFile
from render.job.run_directory import RunDirectory
from render.networks.weights import Loaded, check_local, find_model, load
from render.planning.cost import Traffic
from render.planning.layout import lay_out
from render.planning.plan import Machine, Plan, make_plan
from render.planning.residence import Residence
from render.planning.schedule import Schedule, make_schedule
from render.source.mask import Mask, open_mask
from render.source.source import Source, open_source
from render.storage.url import Place
from render.storage.user_paths import input_path, user_path
from render.system import interrupts
from render.system.logs import is_cluster_job
from render.system.machine import cores, free_disk, host_memory, same_disk
from render.system.paths import file_sha256
from render.system.version import __version__

log = logging.getLogger(__name__)

#: Memory of a worker's process before it holds a canvas, and of Ray's own processes, measured, bytes.
_PROGRAM_BYTES = 450_000_000
_RAY_BYTES = 300_000_000
#: Strips of the canvas that Ray may hold for each worker, and the other bytes that it holds.
_STORED_STRIPS, _STORED_BYTES = 4, 150_000_000
#: Free space assumed for an object store, bytes.
_BOUNDLESS = 1 << 62


@dataclass(frozen=True)
class Draft:
    """A job whose config has been checked, before weights are loaded.

    `plan` rests on an estimate of the memory. `fixed` is what an interrupted run of the same job left to continue
    from; it is None if there is nothing.
    """

    config: Config
    source: Source
    schedule: Schedule
    masks: tuple[Mask, ...]
    directory: RunDirectory
    plan: Plan
    fixed: ResumeKey | None
    profile: Profile
    begun: float

    @property
    def threads(self) -> int:
        """CPU threads of a kernel: from the config, else from the interrupted run, else one for each core."""
        configured = self.config.farm.worker.threads
        return configured or (self.fixed.threads if self.fixed else cores())


@dataclass(frozen=True)
class Job:
    """A job that has passed every check, with its workers ready to run."""

    config: Config
    source: Source
    schedule: Schedule
    masks: tuple[Mask, ...]
    directory: RunDirectory
    loaded: Loaded
    plan: Plan
    fixed: ResumeKey
    executor: Executor
    workers: tuple[WorkerFacts, ...]
    profile: Profile
    begun: float

    @property
    def device(self) -> str:
        """Devices that kernels run on, such as `cpu` or `NVIDIA H200`."""
        return ", ".join(sorted({worker.device for worker in self.workers}))

    def conductor(self, arrangement: tuple[int, int] | None = None, told: Callable[[str], None] = log.info) -> Conductor:
        """Return a conductor of this job's workers, with checkpoints in the job's run directory.

        Args:
            arrangement: Passed on to the conductor.
            told: Called with lines about how a large source is read.
        """
        saving = Saving(self.directory.checkpoints, self.config.checkpoint.every, self.fixed)
        place = scratch_directory(self.config, self.directory) if self.plan.scratch_bytes else None
        return Conductor(
            self.plan,
            self.loaded.architecture,
            self.schedule.objectives,
            self.executor,
            saving,
            BlockOptions(place, arrangement, lambda shape: self.source.prepare(shape, told)),
        )


def draft(
    config: Config,
    opener: Callable[[str, int, SourceConfig], Source] = open_source,
    machine: Machine | None = None,
) -> Draft:
    """Open the source, resolve the objective and plan the job; raise `UserError` where the job cannot work.

    `opener` opens the source; a caller that drafts many jobs of one picture can open it once. The plan is for `machine`, by
    default this one.
    """
    begun = time.perf_counter()
    model = find_model(config.model.name)
    schedule = make_schedule(config, model.architecture, model.default_terms, Library(config))
    modes = BOUNDARY_MODES[config.boundary.mode]
    masks = tuple(open_mask(mask_source, config.source, key, modes) for key, mask_source in schedule.masks)
    local = _local_weights(config)
    source = opener(config.image, config.seed, config.source)
    directory = RunDirectory(
        config,
        {
            "image content": source.sha256,
            "weights content": _content(local) if local else None,
            "objective": str(schedule),
            "looked at": schedule.content,
            "masks": " ".join(mask.sha256 for mask in masks) or None,
            "program": __version__,
        },
    )
    layout = lay_out(config.output, source.size, modes)
    source = source.laid_out(layout.window, directory.home.levels)
    masks = tuple(mask.laid_out(layout.window) for mask in masks)
    fixed = directory.unfinished()
    profile = usable_profile(config)
    plan = make_plan(
        config,
        model.architecture,
        schedule,
        source.size,
        machine or _guessed_machine(config, directory, _pictures_bytes(source, masks)),
        workers=config.farm.workers or 1,
        tiles=fixed.tiles if fixed else None,
        channels=profile.channels,
        source_disk=source.disk_bytes,
    )
    if any(target.panels for target in directory.targets):
        cut_for(config, plan.final.shape)
    log.info("drafted in %.2f s", time.perf_counter() - begun)
    return Draft(config, source, schedule, masks, directory, plan, fixed, profile, begun)


def say_resumption(draft: Draft) -> None:
    """Say where an interrupted run continues; say nothing where the run begins or is quiet."""
    newest = draft.directory.newest() if draft.fixed else None
    if newest is not None:
        say(f"going on from octave {newest.octave + 1}, step {newest.steps}", quiet=draft.config.quiet)


@contextmanager
def prepared(draft: Draft, farm: Farm | None = None, loaded: Loaded | None = None) -> Iterator[Job]:
    """Yield the job with its workers: weights sent, the largest window compiled, the plan made with XLA's figures.

    Args:
        draft: The checked job.
        farm: Farm to lease workers from; None opens one for this job alone.
        loaded: The job's weights, if a farm is given and they are loaded already.

    Raises:
        UserError: The job cannot be prepared.
    """
    config = draft.config
    if farm is not None:
        with farm.lease() as executor:
            yield _prepare(draft, loaded or load_weights(config), executor)
        return
    # In a thread, because starting Ray and reading weights both take seconds and wait for different things.
    with ThreadPoolExecutor(1) as background:
        loading = background.submit(load_weights, config)
        with (
            open_farm(
                config.farm,
                threads=draft.threads,
                store_bytes=store_bytes(draft),
                check=interrupts.check,
                say=lambda line: say(line, quiet=config.quiet),
            ) as job_farm,
            job_farm.lease() as executor,
        ):
            loaded = loading.result()
            # Only after the workers have started: Ray's processes need every core until then.
            background.submit(store.get_ready)
            yield _prepare(draft, loaded, executor)


def _prepare(draft: Draft, loaded: Loaded, executor: Executor) -> Job:
    config, source, schedule = draft.config, draft.source, draft.schedule
    residence = Residence(config.farm.worker.resident, config.farm.worker.batch)
    recipe = KernelRecipe(loaded, schedule.objectives, config.model.precision, residence)
    while True:
        facts = executor.open(recipe, source, draft.masks)
        try:
            plan = make_plan(
                config,
                loaded.architecture,
                schedule,
                source.size,
                _farms_machine(config, draft.directory, _pictures_bytes(source, draft.masks), facts),
                lambda *window: Workers(executor).run([0], RemoteProcess.window_bytes, *window)[0],
                workers=executor.workers,
                tiles=draft.fixed.tiles if draft.fixed else None,
                channels=draft.profile.channels,
                source_disk=source.disk_bytes,
            )
            break
        except WorkersLost:
            executor.mend()
    log.info("kernel ready")
    fixed = ResumeKey(
        draft.directory.digest,
        loaded.sha256,
        tuple(octave.grid.core_shape for octave in plan.octaves),
        draft.threads,
    )
    if draft.fixed is not None and draft.fixed.weights_sha256 != loaded.sha256:
        raise UserError(
            f"{draft.directory.place} was begun with other weights (sha256 {draft.fixed.weights_sha256[:12]}, now "
            f"{loaded.sha256[:12]}): restore them, or fresh=true to start over"
        )
    return Job(
        config,
        source,
        schedule,
        draft.masks,
        draft.directory,
        loaded,
        plan,
        fixed,
        executor,
        tuple(facts),
        draft.profile,
        draft.begun,
    )


def load_weights(config: Config) -> Loaded:
    """Load the weights of the job's model, published or local; raise `UserError` where they cannot be had."""
    loaded = load(config.model.name, _local_weights(config), config.model.sha256)
    log.info("weights loaded: sha256 %s", loaded.sha256)
    return loaded


def _content(weights: Path) -> str:
    """Return the sha256 of a weights file; raise `UserError` where it cannot be read."""
    try:
        return file_sha256(weights)
    except OSError as error:
        raise UserError(f"model.weights={weights} cannot be read: {error.strerror}") from None


def _local_weights(config: Config) -> Path | None:
    if config.model.weights is None:
        return None
    path = input_path(config.model.weights, "model.weights")
    check_local(path)
    return path


def render(job: Job, finding: Callable[[], Mapping[str, Any]] = dict) -> list[Place]:
    """Dream the job's canvas, or continue it, and write its pictures; return their paths, `output.path` first.

    `finding` is called last, with the canvas in the run directory and the workers still there. Its facts are
    recorded, and only then is the run finished.
    """
    with job.directory.opened():
        # `status` reads the file from another terminal.
        progress = ProgressFile(job.directory.path, job.plan, job.directory.home.store_progress)
        # In a cluster job, the JSON log on standard output already says everything.
        quiet = job.config.quiet or (job.config.log == "json" and is_cluster_job())
        display = Displays(make_display(job.plan, quiet=quiet), progress)
        try:
            with interrupts.deferred(quiet=job.config.quiet):
                return _render(job, display, finding)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {_how_to_go_on(job)}") from None
        except Overtaken:
            raise
        except StorageError as error:
            # The newest checkpoint is not looked up: the store would not answer either.
            raise StorageError(f"{error} (then the same command goes on from what was saved)") from None
        except RenderError as error:
            raise type(error)(f"{error} ({_how_to_go_on(job)})" if _newest(job) else str(error)) from None
        finally:
            display.close()


def _render(job: Job, display: Display, finding: Callable[[], Mapping[str, Any]]) -> list[Place]:
    config, directory, plan = job.config, job.directory, job.plan
    started = time.perf_counter()
    log.info(
        "rendering %s: %s of %s on %s",
        directory.pictures.place(directory.targets[0]),
        job.schedule,
        config.model.name,
        job.device,
    )
    directory.start_record(
        device=job.device,
        cpus=cores(),
        threads=job.fixed.threads,
        workers=[asdict(worker) for worker in job.workers],
        image_sha256=job.source.sha256,
        objective=str(job.schedule),
        weights_sha256=job.loaded.sha256,
        profile_sha256=job.profile.sha256,
        plan=asdict(plan),
    )
    if job.directory.resume_key() not in (None, job.fixed):
        log.warning("going on with other settings of the farm than before: sums may be rounded differently")

    def told(line: str) -> None:
        log.info(line)
        display.say(line)

    conductor = job.conductor(told=told)
    metrics = open_metrics(config.farm, directory.run_id)
    try:
        _dream(job, conductor, display, metrics)
    finally:
        metrics.close()
    # The pictures are made from the checkpoint, so the workers' memory can be freed.
    conductor.release()
    dreamed = time.perf_counter()
    pictures = make_pictures(directory, config, job.profile, display.say)
    directory.checkpoints.keep_newest()
    # The history too: where the canvas was finished before, nothing was saved this time.
    directory.save(octaves=[asdict(octave) for octave in conductor.history], **finding())
    job.source.discard()
    ended = time.perf_counter()
    timings = {
        "prepare": started - job.begun,
        "dream": dreamed - started,
        "export": ended - dreamed,
        "total": ended - job.begun,
    }
    directory.save(status="finished", seconds={name: round(seconds, 3) for name, seconds in timings.items()})
    log.info("finished in %.1f s: %s", timings["total"], ", ".join(map(str, pictures)))
    return pictures


def make_again(draft: Draft) -> list[Place]:
    """Write the pictures and copies that a finished run lacks, without dreaming; return the paths like `render`."""
    with draft.directory.opened(begins=False):
        draft.directory.reopen_record()
        return make_pictures(draft.directory, draft.config, draft.profile, lambda line: say(line, quiet=draft.config.quiet))


def _dream(job: Job, conductor: Conductor, display: Display, metrics: Metrics | NoMetrics) -> None:
    """Run the conductor to its end, and show and record its events."""
    directory = job.directory
    for event in conductor.run(job.config.seed):
        directory.home.check_held()
        metrics.update(event)
        match event:
            case OctaveStarted():
                display.octave_started(event.octave, event.steps)
                height, width = event.octave.shape
                log.info(
                    "octave %d: %d x %d px, %d tiles with %d workers, from step %d",
                    event.octave.index + 1, width, height, event.octave.grid.tiles, event.workers, event.steps + 1,
                    extra=_where(event.octave.index, event.steps),
                )  # fmt: skip
            case TilesDone():
                display.tiles_done(event.tiles)
            case StepDone():
                display.step_done(event.step)
                log.info(
                    "octave %d step %d: mean|g| %.6g in %.2f s",
                    event.octave.index + 1, event.step + 1, event.mean_gradient, event.seconds,
                    extra=_where(event.octave.index, event.step + 1),
                )  # fmt: skip
            case Saved():
                log.info("saved octave %d, step %d in %.2f s", event.octave.index + 1, event.steps, event.seconds)
                directory.save(octaves=[asdict(octave) for octave in conductor.history])
                if event.preview is not None:
                    directory.write_preview(event.octave.index, event.preview)
            case OctaveDone():
                directory.write_preview(event.octave.index, event.preview)
            case Recovered():
                display.say(f"a worker was lost: {event.reason}; going on with {event.workers} from the last checkpoint")
            case Noticed():
                machines = "the machine of a worker is" if event.gone == 1 else f"the machines of {event.gone} workers are"
                resume_point = "from here, which is saved" if event.saved else "from the last checkpoint"
                display.say(f"{machines} about to go ({event.reason}): going on with {event.workers} {resume_point}")


def _where(octave: int, steps: int) -> dict[str, int]:
    """Return the run's position for a log that programs read. `octave` counts from 0, the result's from 1."""
    return {"octave": octave + 1, "step": steps}


def _newest(job: Job) -> str:
    """Return the position of the newest checkpoint as text; empty where there is none."""
    manifest = job.directory.checkpoints.read()
    return f"octave {manifest[1][0].octave + 1}, step {manifest[1][0].steps}" if manifest and manifest[1] else ""


def _how_to_go_on(job: Job) -> str:
    newest = _newest(job)
    return f"the same command goes on from {newest}" if newest else "nothing was saved yet"


def calibrate(job: Job) -> float:
    """Return the seconds that a window of the smallest octave takes, from two calls on one worker."""
    octave, workers = job.plan.octaves[0], Workers(job.executor)
    grid, objective = octave.grid, octave.stage.regions[0].objective
    (seconds,) = workers.run([0], RemoteProcess.window_seconds, objective, grid.window_shape, grid.core_shape)
    return seconds


def scratch_directory(config: Config, directory: RunDirectory) -> Path:
    """Return the directory of the mapped files for blocks larger than memory."""
    if config.farm.scratch is None and directory.place is not directory.path:
        # The mirror of a run at a URL exists on this machine only.
        return Path(tempfile.gettempdir())
    if config.farm.scratch is None:
        return directory.path.absolute()
    return user_path(config.farm.scratch, "farm.scratch").absolute()


def _pictures_bytes(source: Source, masks: Sequence[Mask]) -> int:
    """Return the bytes of source and masks, which are held once for all workers of a machine."""
    return source.nbytes + sum(mask.nbytes for mask in masks)


def _guessed_machine(config: Config, directory: RunDirectory, pictures: int) -> Machine:
    """Return an estimate of the machines before workers exist.

    It is this machine; of a cluster, only the run directory's disk is known.
    """
    host_bytes = host_memory() if config.farm.address is None else 1 << 50
    shared_bytes = pictures + _PROGRAM_BYTES + (_RAY_BYTES if config.farm.executor == "ray" else 0)
    return _machine(config, directory, host_bytes, host_bytes, True, config.farm.workers or 1, _PROGRAM_BYTES, shared_bytes)


def _farms_machine(config: Config, directory: RunDirectory, pictures: int, workers: Sequence[WorkerFacts]) -> Machine:
    """Return a machine with the minimum of what the workers report of theirs."""
    workers_per_host = max(Counter(worker.host for worker in workers).values())
    driver_bytes = psutil.Process().memory_info().rss
    if config.farm.executor == "inline":
        held_bytes, shared_bytes = 0, driver_bytes
    else:
        held_bytes = max(worker.held_bytes for worker in workers)
        shared_bytes = driver_bytes + pictures + _RAY_BYTES
    machine = _machine(
        config,
        directory,
        min(worker.host_bytes for worker in workers),
        min(worker.device_bytes for worker in workers),
        any(worker.shares_memory for worker in workers),
        workers_per_host,
        held_bytes,
        shared_bytes,
    )
    return replace(machine, devices=max(worker.devices for worker in workers))


def _machine(
    config: Config, directory: RunDirectory, host: int, device: int, shares: bool, workers: int, held: int, shared: int
) -> Machine:
    scratch, run = scratch_directory(config, directory), directory.path.absolute()
    limit = config.farm.worker.memory_gb
    return Machine(
        host_bytes=host,
        device_bytes=device,
        disk_free=free_disk(run) if directory.place is directory.path else _BOUNDLESS,
        disk=str(directory.place),
        shares_memory=shares,
        workers=workers,
        held_bytes=held,
        shared_bytes=shared,
        worker_bytes=int(limit * 1e9) if limit else None,
        scratch_free=None if directory.place is directory.path and same_disk(scratch, run) else free_disk(scratch),
    )


def store_bytes(draft: Draft) -> int:
    """Return the bytes that Ray holds at once on this machine.

    They are weights, source and masks, and pixels on their way between workers.
    """
    workers = draft.config.farm.workers or 1
    strip_bytes = workers * _STORED_STRIPS * 12 * min(BAND, draft.plan.final.grid.canvas.area)
    # The margins of two steps, and the neighbours' pixels that the gradient's filter needs.
    exchanged_bytes = max(
        2 * Traffic.of(octave.grid, workers).bytes + filter_bytes_exchanged(deal_blocks(octave.grid, workers), octave.stage)
        for octave in draft.plan.octaves
    )
    return int(1.2 * (_pictures_bytes(draft.source, draft.masks) + _STORED_BYTES + strip_bytes + exchanged_bytes))
