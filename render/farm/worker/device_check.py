"""Devices of a worker's process: those of the requested platform, their versions, and their errors as one line."""

from __future__ import annotations

import logging
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import jax

from render.errors import UserError
from render.system.accelerators import (
    device_problem,
    has_nvidia_gpu,
    has_plugin,
    own_words,
    plugin_reports,
    runtime_problem,
)
from render.system.surroundings import devices_environment
from render.system.version import package_version

log = logging.getLogger(__name__)

#: Platforms that can be requested, with their names for users.
_PLATFORMS = {"cuda": "GPU", "tpu": "TPU"}
#: File in which NVIDIA's kernel module states its version.
_DRIVER_FILE = Path("/proc/driver/nvidia/version")
#: Reports of plugins that did not load. JAX tries them once in a process.
_reports: list[str] = []


def usable_devices() -> list[jax.Device]:
    """Return the devices of the requested platform.

    Raises:
        UserError: There are none, or an accelerator is there and cannot be used. Another platform is never used instead.
    """
    target = os.environ.get("JAX_PLATFORMS", "")
    try:
        with plugin_reports() as reports:
            try:
                devices = jax.local_devices()
            finally:
                _reports.extend(reports)
        found = devices[0].platform
        # JAX returns the devices of another platform if it has begun to use that.
        if found != {"cuda": "gpu"}.get(target, target) and target in _PLATFORMS:
            raise RuntimeError(f"JAX runs on {found} there already")
        if found == "cpu" and not target and has_plugin("cuda") and has_nvidia_gpu():
            raise RuntimeError("JAX did not find it")
    # An AssertionError without text if JAX knows no such platform.
    except (RuntimeError, AssertionError) as error:
        raise UserError(_refusal(target or "cuda", [*_reports, str(error)])) from None
    for report in reports:
        log.info("JAX goes on without a plugin: %s", own_words(report))
    return devices


@contextmanager
def readable_errors() -> Iterator[None]:
    """Inside the context, turn errors that say that a device cannot be used into `UserError`, with a remedy."""
    try:
        yield
    except Exception as error:
        problem = runtime_problem(error)
        if problem is None:
            raise
        found = jax.local_devices()[0].platform
        if found == "cpu":
            raise UserError(f"{platform.node()} has too little memory ({own_words(str(error))}): render smaller") from None
        place = f"the {found.upper()} of a worker on {platform.node()} cannot be used"
        raise UserError(f"{place}: {problem.reason} ({own_words(str(error))}); {problem.remedy}") from None


def device_versions(device: jax.Device) -> dict[str, str]:
    """Return versions, by name, that decide the bits of a device's results beside those of `own_versions`.

    Empty for a CPU. An entry is missing if its library does not tell.
    """
    if device.platform == "cpu":
        return {}
    started = devices_environment()
    flags = "unknown" if started is None else started.get("XLA_FLAGS", "")
    versions = {"jaxlib": package_version("jaxlib"), "xla_flags": flags}
    if device.platform == "gpu":
        versions |= _cuda_versions()
    with suppress(PackageNotFoundError):
        versions |= {"libtpu": package_version("libtpu")} if device.platform == "tpu" else {}
    return versions


@cache
def _cuda_versions() -> dict[str, str]:
    """Return the versions of CUDA, cuDNN, cuBLAS and the driver that this process uses."""
    from jax._src.lib import cuda_versions as libraries

    versions = {}
    for name in ("cuda_runtime", "cudnn", "cublas"):
        # A private module of JAX, whose functions raise if a library is missing.
        with suppress(AttributeError, RuntimeError):
            versions[name.removesuffix("_runtime")] = str(getattr(libraries, f"{name}_get_version")())
    with suppress(OSError):
        driver = re.search(r"\b\d{3,}\.\d+(?:\.\d+)?\b", _DRIVER_FILE.read_text())
        versions |= {"driver": driver[0]} if driver else {}
    return versions


def _refusal(target: str, texts: list[str]) -> str:
    """Return one line about a platform that cannot be used, from the texts of its libraries, the most telling first."""
    name = _PLATFORMS.get(target, target)
    known = (problem for problem in map(device_problem, texts) if problem)
    if target in _PLATFORMS and not has_plugin(target):
        reason, remedy = f"JAX has no support for {target} there", f"install the extra (make setup EXTRAS={target})"
    elif problem := next(known, None):
        reason, remedy = problem
    elif target == "cuda" and not has_nvidia_gpu():
        reason, remedy = "there is none, or its driver is not loaded", "see whether nvidia-smi lists it"
    else:
        words = next((own_words(text) for text in reversed(texts) if text), "JAX does not say why")
        return _sentence(target, name, words, f"end what else holds it, or install the extra (make setup EXTRAS={target})")
    words = next((own_words(text) for text in texts if device_problem(text)), "")
    return _sentence(target, name, f"{reason}: {words}" if words and words != reason else reason, remedy)


def _sentence(target: str, name: str, reason: str, remedy: str) -> str:
    """Return the message for users."""
    on_cpus = ", or set farm.worker.num_gpus=0 to render on CPUs" if target == "cuda" else ""
    return f"a worker on {platform.node()} cannot use its {name} ({reason}): {remedy}{on_cpus}"
