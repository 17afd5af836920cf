"""What libraries say of a device that cannot be used, and what users are told of it: texts of jaxlib 0.10 and CUDA 12."""

from __future__ import annotations

import logging

import jax
import pytest

from render.system import accelerators
from render.system.accelerators import device_problem, has_nvidia_gpu, own_words, plugin_reports, runtime_problem

_TEXTS = {
    "jaxlib/cuda/versions_helpers.cc:113: operation cudaGetDeviceCount(&device_count) failed: CUDA driver version is "
    "insufficient for CUDA runtime version": "driver is older",
    "Unable to initialize backend 'cuda': INTERNAL: CUDA error: : CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: system has "
    "unsupported display driver / cuda driver combination": "driver is older",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the provided PTX was compiled with an unsupported toolchain.": "driver is older",
    "Unable to initialize backend 'cuda': FAILED_PRECONDITION: No visible GPU devices.": "CUDA sees no device",
    "INTERNAL: CUDA error: Failed call to cuInit: CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected": "no device",
    "operation cudaRuntimeGetVersion(&version) failed: Error loading CUDA libraries. GPU will not be used.": "is missing",
    "operation cuInit(0) failed: Unknown CUDA error 303; cuGetErrorName failed.": "driver is missing",
    "INTERNAL: failed call to cuDevicePrimaryCtxRetain: CUDA_ERROR_DEVICE_UNAVAILABLE: CUDA-capable device(s) is/are busy "
    "or unavailable": "another process holds it",
    "INTERNAL: no supported devices found for platform CUDA": "another process holds it",
    "ABORTED: The TPU is already in use by process with pid 4711. Not attempting to load libtpu.so in this process.": (
        "another process holds it"
    ),
    "FAILED_PRECONDITION: DNN library initialization failed. Look at the errors above for more details.": "cuDNN or cuBLAS",
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 68719476736 bytes.": "memory is used up",
    "RESOURCE_EXHAUSTED: CUDA_ERROR_OUT_OF_MEMORY: out of memory": "memory is used up",
    "Outdated cuDNN installation found.\nVersion JAX was built against: 90800": "another version",
    "Unable to load cuDNN. Is it installed?": "another version",
    "INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered": "has failed",
}


@pytest.mark.parametrize(("text", "reason"), _TEXTS.items(), ids=range(len(_TEXTS)))
def test_what_a_library_says_is_understood(text: str, reason: str) -> None:
    problem = device_problem(text)
    assert problem is not None
    assert reason in problem.reason
    assert problem.remedy


@pytest.mark.parametrize("text", ["", "INVALID_ARGUMENT: Executable expected parameter 0 of size 4", "a bug of ours"])
def test_other_texts_are_left_alone(text: str) -> None:
    assert device_problem(text) is None
    assert runtime_problem(jax.errors.JaxRuntimeError(text)) is None


def test_only_errors_of_the_runtime_are_problems_of_a_device() -> None:
    text = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes."
    assert runtime_problem(jax.errors.JaxRuntimeError(text)) == device_problem(text)
    assert runtime_problem(ValueError(text)) is None


def test_a_librarys_own_words_are_one_short_line() -> None:
    text = (
        "Unable to initialize backend 'cuda': FAILED_PRECONDITION: No visible GPU devices. (set JAX_PLATFORMS='' to choose)"
    )
    assert own_words(text) == "FAILED_PRECONDITION: No visible GPU devices"
    assert own_words("\n\nfirst\nsecond") == "first"
    assert own_words("") == ""
    assert len(own_words("x" * 10_000)) < 300


def test_tracebacks_of_plugins_are_collected_and_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("jax._src.xla_bridge")
    with plugin_reports() as reports:
        try:
            try:
                raise RuntimeError("the cause")
            except RuntimeError as cause:
                raise RuntimeError("Unable to load CUDA. Is it installed?") from cause
        except RuntimeError:
            logger.exception("Jax plugin configuration error: Exception when calling %s.initialize()", "plugin")
        logger.info("not for users")
    assert reports == ["Unable to load CUDA. Is it installed?\nthe cause"]
    assert capfd.readouterr().err == ""
    assert logger.propagate
    assert logger.handlers == [] or all(type(handler).__name__ != "_Collector" for handler in logger.handlers)


def test_a_hidden_gpu_does_not_count(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(accelerators, "_NVIDIA_FILES", (str(tmp_path / "nvidia0"),))
    assert has_nvidia_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not has_nvidia_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(accelerators, "_NVIDIA_FILES", (str(tmp_path / "absent"),))
    assert not has_nvidia_gpu()
