"""Accelerators of this machine, and what their errors mean. Imports neither JAX nor Ray.

JAX, XLA, CUDA and libtpu each have texts of their own for a device that cannot be used; `device_problem` says in few words
what is wrong and what to do. The texts are those of jaxlib 0.10 with CUDA 12 and 13.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

#: Files by which JAX knows that a machine has an NVIDIA GPU and its driver: of Linux, of containers, of Windows' Linux.
_NVIDIA_FILES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")
#: Values of CUDA_VISIBLE_DEVICES by which a user hides all GPUs.
_NO_GPUS = ("", "-1", "none", "NoDevFiles")
#: Packages of JAX's support for a platform.
_PLUGINS = {"cuda": ("jax_cuda12_plugin", "jax_cuda13_plugin"), "tpu": ("libtpu",)}
#: Logger of JAX that reports plugins which do not load.
_PLATFORM_LOGGER = "jax._src.xla_bridge"
#: Longest part of a library's own text in a message.
_SHOWN_CHARACTERS = 200


class Problem(NamedTuple):
    """Why a device cannot be used, and the remedy: two parts of a sentence."""

    reason: str
    remedy: str


_NVIDIA_SMI = "end what else uses it (nvidia-smi lists the processes)"
#: Patterns of libraries' texts, in the order in which they are tried.
_PROBLEMS: tuple[tuple[str, Problem], ...] = (
    (
        r"driver version is insufficient|SYSTEM_DRIVER_MISMATCH|UNSUPPORTED_PTX|unsupported toolchain"
        r"|COMPAT_NOT_SUPPORTED_ON_DEVICE|Driver is too old|minimum required driver",
        Problem("its NVIDIA driver is older than this CUDA needs", "update the driver, or install the extra cuda12"),
    ),
    (
        r"operation \w+\(.*\) failed: .*(?:no CUDA-capable device|CUDA_ERROR_NO_DEVICE)|CUDA_ERROR_NO_DEVICE"
        r"|no CUDA-capable device|No visible GPU devices|provides no devices",
        Problem("CUDA sees no device", "see whether nvidia-smi lists it and CUDA_VISIBLE_DEVICES names it"),
    ),
    (
        r"Error loading CUDA libraries|Failed call to cuInit|operation cuInit\(0\) failed|Could not find cuda drivers",
        Problem("the NVIDIA driver is missing or does not load", "install the driver; nvidia-smi must list the device"),
    ),
    (
        r"busy or unavailable|DEVICE_UNAVAILABLE|already in use by process|no supported devices found for platform",
        Problem("another process holds it", _NVIDIA_SMI),
    ),
    (
        r"DNN library initialization failed|CUDNN_STATUS_NOT_INITIALIZED|CUBLAS_STATUS_NOT_INITIALIZED"
        r"|Failed to (?:create|initialize) cu(?:BLAS|DNN)|Could not create cudnn handle|CUDNN_STATUS_INTERNAL_ERROR",
        Problem(
            "cuDNN or cuBLAS does not start there, for want of memory or with libraries of another version",
            f"{_NVIDIA_SMI}, or unset LD_LIBRARY_PATH",
        ),
    ),
    (
        r"RESOURCE_EXHAUSTED|CUDA_ERROR_OUT_OF_MEMORY|ut of memory",
        Problem("its memory is used up", f"{_NVIDIA_SMI}, or set a smaller tiles.size or farm.worker.batch"),
    ),
    (
        r"Unable to load (?:CUDA|cu\w+)|Outdated \w+ installation|cuDNN 9\.10\.0|cuDNN not found",
        Problem("JAX's CUDA libraries are missing or of another version", "unset LD_LIBRARY_PATH, or install them again"),
    ),
    (
        r"UNRECOVERABLE|ECC_UNCORRECTABLE|ILLEGAL_ADDRESS|illegal memory access|ERROR_LAUNCH_FAILED|fallen off the bus",
        Problem("it has failed", "see the kernel log for the driver's Xid, and reset the device or take another"),
    ),
)
#: Classes of JAX's errors that come from a device's runtime or compiler.
_RUNTIME_ERRORS = ("JaxRuntimeError", "XlaRuntimeError")


def has_plugin(platform: str) -> bool:
    """Return True if JAX is installed with support for `cuda` or `tpu`."""
    return any(importlib.util.find_spec(name) for name in _PLUGINS[platform])


def has_nvidia_gpu() -> bool:
    """Return True if this machine has an NVIDIA GPU, usable or not, and its user has not hidden it."""
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in _NO_GPUS
    return not is_hidden and any(Path(name).exists() for name in _NVIDIA_FILES)


def device_problem(text: str) -> Problem | None:
    """Return what a library's text about a device means; None if it is not known."""
    return next((problem for pattern, problem in _PROBLEMS if re.search(pattern, text)), None)


def runtime_problem(error: BaseException) -> Problem | None:
    """Return what an error of JAX's runtime or compiler says of the device; None for any other error."""
    return device_problem(str(error)) if type(error).__name__ in _RUNTIME_ERRORS else None


def own_words(text: str) -> str:
    """Return the first line of a library's text, without advice that does not apply here, and not too long."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = re.split(r" \((?:set|you may need to uninstall)\b", lines[0])[0] if lines else ""
    first = re.sub(r"^Unable to initialize backend '\w+': ", "", first).rstrip(". ")
    return first if len(first) <= _SHOWN_CHARACTERS else f"{first[:_SHOWN_CHARACTERS]}..."


@contextmanager
def plugin_reports() -> Iterator[list[str]]:
    """Inside the context, collect what JAX reports of plugins that do not load, instead of showing tracebacks."""
    reports: list[str] = []
    logger = logging.getLogger(_PLATFORM_LOGGER)
    collector = _Collector(reports)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield reports
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagates


class _Collector(logging.Handler):
    """Handler that keeps the text of warnings and errors, with that of their exceptions and of the causes of these."""

    def __init__(self, reports: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._reports = reports

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        error = record.exc_info[1] if record.exc_info else None
        texts = []
        while error is not None:
            texts.append(str(error))
            error = error.__cause__
        self._reports.append("\n".join(texts) or record.getMessage())
