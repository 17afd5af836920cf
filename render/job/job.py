"""One dream job from its config to its pictures: config -> plan -> conductor -> workers -> pictures."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from render.canvas import store
from render.config.schema import Config, picture_bleed
from render.errors import Overtaken, RenderError, StorageError, UserError, WorkersLost
from render.farm.checkpoint import ResumeKey
from render.farm.conductor import BlockOptions, Conductor, Saving
from render.farm.events import OctaveDone, StepDone
from render.farm.executors import Executor
from render.farm.farms import Farm, open_farm
from render.farm.messages import WorkerFacts
from render.farm.ray.metrics import open_metrics
from render.farm.remote import Workers
from render.farm.worker.interface import RemoteProcess
from render.farm.worker.kernel_recipe import KernelRecipe
from render.job import resources
from render.job.event_report import record_event, show_event
from render.job.farm_changes import device_change, mixed_devices
from render.job.notebook_display import NotebookDisplay, in_notebook
from render.job.pictures import make_pictures
from render.job.print_pages import refuse_pages
from render.job.program_report import report_first_step, report_programs
from render.job.progress import Display, Displays, make_display, say
from render.job.progress_file import ProgressFile
from render.job.resolve import OpenSource, ResolvedJob, resolve
from render.job.weight_loading import load_weights
from render.networks.weights import Loaded
from render.planning.plan import Machine, Plan
from render.planning.planner import make_plan
from render.source.source import open_source
from render.storage.url import Place
from render.system import interrupts
from render.system.machine import cores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draft:
    """A job that has been checked and planned, before weights are loaded.

    Attributes:
        resolved: What the config means.
        plan: The plan, with an estimate of the memory.
        resume_key: Values of an interrupted run of the same job that this one resumes; None if there is none.
        begun: Time of `time.perf_counter` when the job began, s.
    """

    resolved: ResolvedJob
    plan: Plan
    resume_key: ResumeKey | None
    begun: float

    @property
    def threads(self) -> int:
        """CPU threads of a kernel: from the config, else from the interrupted run, else one for each core."""
        configured = self.resolved.farm.worker.threads
        return configured or (self.resume_key.threads if self.resume_key else cores())


@dataclass(frozen=True)
class Job:
    """A job that has passed every check, with its workers ready to run.

    Attributes:
        resolved: What the config means.
        plan: The plan, with XLA's figures for the memory.
        resume_key: Values that a run which resumes this one must match.
        loaded: The weights, and the architecture that they are for.
        executor: The workers.
        workers: What each worker reports of itself.
        begun: Time of `time.perf_counter` when the job began, s.
    """

    resolved: ResolvedJob
    plan: Plan
    resume_key: ResumeKey
    loaded: Loaded
    executor: Executor
    workers: tuple[WorkerFacts, ...]
    begun: float

    @property
    def device(self) -> str:
        """Devices that kernels run on, such as `cpu` or `NVIDIA H200`."""
        return ", ".join(sorted({worker.device for worker in self.workers}))

    def conductor(self, arrangement: tuple[int, int] | None = None, tell: Callable[[str], None] = log.info) -> Conductor:
        """Return a conductor of this job's workers, with checkpoints in the job's run directory.

        Args:
            arrangement: Passed on to the conductor.
            tell: Called with lines about how a large source is read.
        """
        resolved = self.resolved
        scratch = resolved.scratch if self.plan.scratch_bytes else None
        return Conductor(
            self.plan,
            self.loaded.architecture,
            resolved.schedule.objectives,
            self.executor,
            Saving(resolved.directory.checkpoints, resolved.checkpoint_interval, self.resume_key),
            BlockOptions(scratch, arrangement, lambda shape: resolved.source.prepare(shape, tell)),
        )


def draft(config: Config, opener: OpenSource = open_source, machine: Machine | None = None) -> Draft:
    """Resolve a config and plan the job; nothing is started or written.

    Args:
        config: A validated config.
        opener: Opens the source; a caller that drafts many jobs of one picture can open it once.
        machine: Machine to plan for; None for this one.

    Raises:
        UserError: The job cannot work.
    """
    begun = time.perf_counter()
    resolved = resolve(config, opener)
    resume_key = resolved.directory.unfinished()
    plan = make_plan(
        resolved.plan_request,
        machine or resources.estimated_machine(resolved),
        workers=resolved.workers,
        core_shapes=resume_key.tiles if resume_key else None,
    )
    refuse_pages(resolved.directory.targets, config, plan.final.shape, picture_bleed(config.output))
    log.info("drafted in %.2f s", time.perf_counter() - begun)
    return Draft(resolved, plan, resume_key, begun)


def say_resumption(draft: Draft) -> None:
    """Say where an interrupted run continues; say nothing where the run begins or is quiet."""
    newest = draft.resolved.directory.newest() if draft.resume_key else None
    if newest is not None:
        say(f"going on from octave {newest.octave + 1}, step {newest.steps}", quiet=draft.resolved.quiet)


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
    with equipped(draft, farm, loaded) as (leased, weights), leased.lease() as executor:
        yield _prepare(draft, weights, executor)


@contextmanager
def equipped(draft: Draft, farm: Farm | None = None, loaded: Loaded | None = None) -> Iterator[tuple[Farm, Loaded]]:
    """Yield a farm and the weights for a job: see `prepared`. Nothing is leased or sent yet."""
    resolved = draft.resolved
    if farm is not None:
        yield farm, loaded or load_weights(resolved.network, resolved.config.look)
        return
    # In a thread, because starting Ray and reading weights both take seconds and wait for different things.
    with ThreadPoolExecutor(1) as background:
        loading = background.submit(load_weights, resolved.network, resolved.config.look)
        with open_farm(
            resolved.farm,
            threads=draft.threads,
            store_bytes=resources.store_bytes(resolved, draft.plan),
            check=interrupts.check,
            say=lambda line: say(line, quiet=resolved.quiet),
        ) as job_farm:
            loaded = loading.result()
            # Only after the workers have started: Ray's processes need every core until then.
            background.submit(store.get_ready)
            yield job_farm, loaded


def opening_arguments(resolved: ResolvedJob, loaded: Loaded) -> tuple[Any, ...]:
    """Return what every worker of a job is opened with: see `WorkerProcess.open`."""
    recipe = KernelRecipe(loaded, resolved.schedule.objectives, resolved.network.precision, resolved.plan_request.residence)
    return recipe, resolved.source, resolved.masks


def _prepare(draft: Draft, loaded: Loaded, executor: Executor) -> Job:
    resolved = draft.resolved
    request = resolved.plan_request
    while True:
        facts = executor.open(*opening_arguments(resolved, loaded))
        try:
            plan = make_plan(
                # A local file of weights may be of a variant of the architecture.
                replace(request, architecture=loaded.architecture),
                resources.farm_machine(resolved, facts),
                lambda *window: Workers(executor).run([0], RemoteProcess.window_bytes, *window)[0],
                workers=executor.workers,
                core_shapes=draft.resume_key.tiles if draft.resume_key else None,
            )
            break
        except WorkersLost:
            executor.mend()
    (programs,) = Workers(executor).run([0], RemoteProcess.program_times)
    log.info("kernel ready, %.2f s of it waiting for programs", programs.waited)
    resume_key = ResumeKey(
        resolved.directory.digest,
        loaded.sha256,
        tuple(octave.grid.core_shape for octave in plan.octaves),
        draft.threads,
    )
    if draft.resume_key is not None and draft.resume_key.weights_sha256 != loaded.sha256:
        raise UserError(
            f"{resolved.directory.place} was begun with other weights (sha256 {draft.resume_key.weights_sha256[:12]}, now "
            f"{loaded.sha256[:12]}): restore them, or fresh=true to start over"
        )
    return Job(resolved, plan, resume_key, loaded, executor, tuple(facts), draft.begun)


def render(job: Job, final_facts: Callable[[], Mapping[str, Any]] = dict) -> list[Place]:
    """Dream the job's canvas, or continue it, and write its pictures; return their paths, `output.path` first.

    Args:
        job: The prepared job.
        final_facts: Called last, with the canvas in the run directory and the workers still there. Its facts are
            recorded, and only then is the run finished.

    Raises:
        RenderError: The dream stopped; the message says from where the same command goes on.
        KeyboardInterrupt: The user stopped it; the canvas is saved.
    """
    directory, quiet = job.resolved.directory, job.resolved.quiet
    with directory.opened():
        # `status` reads the file from another terminal.
        progress = ProgressFile(directory.path, job.plan, directory.home.store_progress)
        display = Displays(_display(job), progress)
        try:
            with interrupts.deferred(quiet=quiet):
                return _render_and_export(job, display, final_facts)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {_resume_hint(job)}") from None
        except Overtaken:
            raise
        except StorageError as error:
            # The newest checkpoint is not looked up: the store would not answer either.
            raise StorageError(f"{error} (then the same command goes on from what was saved)") from None
        except RenderError as error:
            raise type(error)(f"{error} ({_resume_hint(job)})" if _newest(job) else str(error)) from None
        finally:
            display.close()


def _display(job: Job) -> Display:
    """Return the display that suits where the job runs."""
    if job.resolved.shows_progress and in_notebook():
        return NotebookDisplay(job.plan)
    return make_display(job.plan, quiet=not job.resolved.shows_progress)


def _render_and_export(job: Job, display: Display, final_facts: Callable[[], Mapping[str, Any]]) -> list[Place]:
    resolved, directory = job.resolved, job.resolved.directory
    started = time.perf_counter()
    log.info(
        "rendering %s: %s of %s on %s",
        directory.pictures.place(directory.targets[0]), resolved.schedule, resolved.network.name, job.device,
    )  # fmt: skip
    _warn_of_rounding(job, display)
    _start_record(job)
    conductor, first_step = _conduct(job, display)
    report_programs(job.executor, directory)
    # The pictures are made from the checkpoint, so the workers' memory can be freed.
    conductor.release()
    dreamed = time.perf_counter()
    pictures = make_pictures(directory, resolved.config, resolved.profile, display.say, resolved.reference, fetches=True)
    directory.checkpoints.keep_newest()
    # The history too: where the canvas was finished before, nothing was saved this time.
    directory.save(octaves=[asdict(octave) for octave in conductor.history], **final_facts())
    resolved.source.discard()
    ended = time.perf_counter()
    timings = {
        "prepare": started - job.begun,
        **({} if first_step is None else {"first_step": first_step - job.begun}),
        "dream": dreamed - started,
        "export": ended - dreamed,
        "total": ended - job.begun,
    }
    directory.save(status="finished", seconds={name: round(seconds, 3) for name, seconds in timings.items()})
    log.info("finished in %.1f s: %s", timings["total"], ", ".join(map(str, pictures)))
    return pictures


def _warn_of_rounding(job: Job, display: Display) -> None:
    """Say if sums may be rounded differently than before, or from tile to tile."""
    directory, warnings = job.resolved.directory, []
    if directory.resume_key() not in (None, job.resume_key):
        log.warning("going on with other settings of the farm than before: sums may be rounded differently")
    change = device_change(directory.recorded_workers(), job.workers) if directory.unfinished() else None
    if change:
        warnings.append(f"going on with other devices ({change}): sums may be rounded differently")
    if mixture := mixed_devices(job.workers):
        warnings.append(f"workers differ ({mixture}): which pixels each rounds depends on who computes them")
    for line in warnings:
        log.warning(line)
        display.say(line)


def _start_record(job: Job) -> None:
    """Begin the run's record with what decides its pixels and its speed."""
    job.resolved.directory.start_record(
        device=job.device,
        cpus=cores(),
        threads=job.resume_key.threads,
        workers=[asdict(worker) for worker in job.workers],
        image_sha256=job.resolved.source.sha256,
        objective=str(job.resolved.schedule),
        weights_sha256=job.loaded.sha256,
        profile_sha256=job.resolved.profile.sha256,
        match_sha256=None if job.resolved.reference is None else job.resolved.reference.sha256,
        plan=asdict(job.plan),
    )


def _conduct(job: Job, display: Display) -> tuple[Conductor, float | None]:
    """Run a conductor to its end, and show and record its events.

    Returns:
        The conductor, and the time of `time.perf_counter` at which its first step was done, s; None if it did none.
    """
    directory, first_step, is_reported = job.resolved.directory, None, False

    def tell(line: str) -> None:
        log.info(line)
        display.say(line)

    conductor = job.conductor(tell=tell)
    metrics = open_metrics(job.resolved.farm, directory.run_id)
    try:
        for event in conductor.run(job.resolved.seed):
            directory.home.check_held()
            metrics.update(event)
            show_event(event, display)
            record_event(event, directory, conductor.history)
            if first_step is None and isinstance(event, StepDone):
                first_step = time.perf_counter()
            # Workers answer no calls while they step.
            if first_step is not None and not is_reported and isinstance(event, OctaveDone):
                report_first_step(job.executor, first_step - job.begun)
                is_reported = True
    finally:
        metrics.close()
    return conductor, first_step


def make_again(draft: Draft) -> list[Place]:
    """Write the pictures and copies that a finished run lacks, without dreaming; return the paths like `render`."""
    resolved = draft.resolved
    with resolved.directory.opened(begins=False):
        resolved.directory.reopen_record()
        return make_pictures(
            resolved.directory,
            resolved.config,
            resolved.profile,
            lambda line: say(line, quiet=resolved.quiet),
            resolved.reference,
            fetches=True,
        )


def _newest(job: Job) -> str:
    """Return the position of the newest checkpoint as text; empty where there is none."""
    newest = job.resolved.directory.newest()
    return f"octave {newest.octave + 1}, step {newest.steps}" if newest else ""


def _resume_hint(job: Job) -> str:
    newest = _newest(job)
    return f"the same command goes on from {newest}" if newest else "nothing was saved yet"


def calibrate(job: Job) -> float:
    """Return the seconds that a window of the smallest octave takes, from two calls on one worker."""
    octave, workers = job.plan.octaves[0], Workers(job.executor)
    grid, objective = octave.grid, octave.stage.regions[0].objective
    measuring_grid = job.resolved.schedule.objectives[objective].measuring_grid(job.loaded.architecture, grid)
    measured = measuring_grid.window_shape if measuring_grid else None
    (seconds,) = workers.run([0], RemoteProcess.window_seconds, objective, grid.window_shape, grid.core_shape, measured)
    return seconds
