"""A local Ray node on this machine: its start, the watch over its vital processes, and its end."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil
import ray

from render.config.schema import FarmConfig
from render.errors import NodeLost, UserError
from render.farm.ray.failures import first_line
from render.farm.ray.private_api import differing_parts, forget_authentication, vital_processes
from render.farm.ray.quick_start import quick_start
from render.farm.ray.session_directory import Session, open_session
from render.farm.ray.startup import init_ray, system_config
from render.system.accelerators import has_plugin
from render.system.large_pages import large_pages
from render.system.surroundings import changed_environment, clean_environment, private_token

log = logging.getLogger(__name__)

#: Ray's names of its vital processes, and their names for users.
_VITAL = {"raylet": "raylet", "gcs_server": "control store"}
#: Time between checks of them, and how long one may be stopped, s.
_CHECK_PERIOD_S, _MAX_STOPPED_S = 0.5, 60.0
#: Variables that `ray.init` sets in this process.
_RAY_SETS = ("RAY_AUTH_MODE", "PYTHONBREAKPOINT")


class RayNode:
    """Local Ray node: started, watched, and ended with all its processes and files."""

    def __init__(self, processes: Mapping[str, Popen[bytes]], session: Session, environment: ExitStack) -> None:
        """Store the vital processes by their names for users, the session, and what restores the environment."""
        self._processes = dict(processes)
        self._session = session
        self._environment = environment
        #: All processes of the node, to be ended with it.
        self._family: set[psutil.Process] = set()
        #: Times since when vital processes have been stopped, by their names.
        self._stopped_since: dict[str, float] = {}
        self._loss = ""
        self._checked_at = 0.0
        self._lock = threading.Lock()

    @classmethod
    def start(cls, config: FarmConfig, memory: int, say: Callable[[str], None]) -> RayNode:
        """Start Ray; the second attempt, if the first one fails, starts all of Ray's processes.

        Args:
            config: The farm's settings.
            memory: Size of the object store, bytes.
            say: Called with a message for users before the second attempt.

        Raises:
            UserError: Ray does not start.
        """
        for is_last in (False, True):
            session, environment = open_session(), ExitStack()
            try:
                _enter_environment(environment, config)
                _init(config, memory, session, all_processes=is_last)
                log.info("Ray %s started in %s", ray.__version__, session.home)
                node = cls(vital_processes(_VITAL), session, environment)
                if parts := ", ".join(differing_parts()):
                    say(f"Ray {ray.__version__} differs from the one expected and may start more slowly ({parts})")
                return node
            except BaseException as error:
                ray.shutdown()
                _end_children()
                session.close()
                environment.close()
                # Ray may raise any exception here, even a plain Exception.
                if not isinstance(error, Exception):
                    raise
                if is_last:
                    raise UserError(
                        f"Ray cannot be started on this machine ({first_line(error)}): end what else keeps it busy and run "
                        "the command again, or set farm.executor=inline to do without Ray"
                    ) from None
                log.warning("Ray has not started", exc_info=True)
                say(f"Ray has not started ({first_line(error)}): trying once more")
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Stop Ray, and end and remove all that is left of it, also in this process' environment."""
        ray.shutdown()
        self.end()
        self._session.close()
        self._environment.close()

    @property
    def is_lost(self) -> bool:
        """True if one of the vital processes was seen to have ended."""
        return bool(self._loss)

    def check(self) -> None:
        """Raise `NodeLost` once one of the vital processes has ended or been stopped for too long. Cheap."""
        with self._lock:
            now = time.monotonic()
            if not self._loss and now - self._checked_at >= _CHECK_PERIOD_S:
                self._checked_at = now
                losses = (self._read_loss(name, process, now) for name, process in self._processes.items())
                self._loss = next(filter(None, losses), "")
        if self._loss:
            raise NodeLost(f"Ray's {self._loss}")

    def remember(self) -> None:
        """Record the current processes, to end them with the node if they do not end by themselves."""
        for process in self._processes.values():
            with suppress(psutil.Error):
                vital = psutil.Process(process.pid)
                self._family |= {vital, *vital.children(recursive=True)}

    def end(self) -> None:
        """End all processes that are left.

        Ray's agents would take a minute to notice that they are alone.
        """
        processes = [process for process in self._family if process.is_running()]
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=5.0)

    def _read_loss(self, name: str, process: Popen[bytes], now: float) -> str:
        """Return why a process counts as lost, or an empty string if it runs."""
        code = process.poll()
        if code is not None:
            ending = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with code {code}"
            return f"{name} on this machine {ending}"
        with suppress(psutil.Error):
            if psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
                if now - self._stopped_since.setdefault(name, now) > _MAX_STOPPED_S:
                    return f"{name} on this machine has been stopped for {_MAX_STOPPED_S:.0f} s"
                return ""
        self._stopped_since.pop(name, None)
        return ""


def _init(config: FarmConfig, memory: int, session: Session, *, all_processes: bool) -> None:
    worker = config.worker
    on_gpu = worker.num_gpus if worker.num_gpus is not None else has_plugin("cuda")
    cpus = (config.workers or os.cpu_count() or 1) * max(1, int(worker.num_cpus or 1))
    options: dict[str, Any] = {}
    shared = Path("/dev/shm")
    if shared.is_dir() and psutil.disk_usage(str(shared)).free < memory:
        # Containers often have little shared memory; a file works too, but is slower.
        options["_plasma_directory"] = str(session.root)
    with clean_environment():
        init_ray(
            nullcontext() if config.dashboard else quick_start(all_processes=all_processes),
            # A local Ray even if RAY_ADDRESS names a cluster.
            address="local",
            num_cpus=cpus,
            num_gpus=None if on_gpu else 0,
            resources=None,
            include_dashboard=config.dashboard,
            object_store_memory=memory,
            _temp_dir=str(session.root),
            _system_config=system_config(dashboard=config.dashboard),
            **options,
        )


def _enter_environment(environment: ExitStack, config: FarmConfig) -> None:
    """Set the variables that Ray's processes inherit; `environment` restores them."""
    # Last, when the variables are restored: Ray must not keep our token.
    environment.callback(forget_authentication)
    token = {} if config.dashboard else private_token()
    environment.enter_context(changed_environment({**large_pages(), **token}, _RAY_SETS))


def _end_children() -> None:
    """End the Ray processes that this process has started.

    After a failed start Ray itself does not clean up.
    """
    ray_processes = [child for child in psutil.Process().children(recursive=True) if _is_ray_process(child)]
    for child in ray_processes:
        with suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(ray_processes, timeout=5.0)


def _is_ray_process(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return bool(words) and (words[0].startswith("ray::") or any("/ray/" in word for word in words[:3]))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
