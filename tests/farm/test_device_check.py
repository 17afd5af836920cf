"""Accelerators that are there and cannot be used: one line, exit code 2, and never a CPU in their place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from render.farm.executors import InlineExecutor
from render.farm.ray.failures import read_failure
from render.farm.worker import device_check
from render.farm.worker.device_check import device_versions, readable_errors, usable_devices
from render.farm.worker.process import WorkerProcess
from tests.accelerators.compilers import DIRECTORY, missing
from tests.conftest import ROOT, TINY, refusal

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 68719476736 bytes."


def failing(text: str) -> Callable[..., None]:
    def fail(*_arguments: object) -> None:
        raise jax.errors.JaxRuntimeError(text)

    return fail


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with a GPU and JAX's support for it, as far as files tell."""
    monkeypatch.setattr(device_check, "has_plugin", lambda _platform: True)
    monkeypatch.setattr(device_check, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(device_check, "_reports", [])
    return monkeypatch


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Unable to initialize backend 'cuda': INTERNAL: no supported devices found for platform CUDA", "another process"),
        ("Unable to initialize backend 'cuda': FAILED_PRECONDITION: No visible GPU devices.", "CUDA sees no device"),
        ("Unable to initialize backend 'cuda': something new (set JAX_PLATFORMS='' to choose)", "(something new)"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_one_line(text: str, words: str, with_gpu: pytest.MonkeyPatch) -> None:
    with_gpu.setenv("JAX_PLATFORMS", "cuda")
    with_gpu.setattr(jax, "local_devices", failing(text))
    message = refusal(usable_devices)
    for word in ("cannot use its GPU", words, "farm.worker.num_gpus=0"):
        assert word in message


def test_a_gpu_whose_plugin_does_not_load_is_no_reason_to_take_the_cpu(with_gpu: pytest.MonkeyPatch) -> None:
    """JAX only logs that, and goes on with the CPU where no platform was asked for."""
    with_gpu.delenv("JAX_PLATFORMS", raising=False)
    with_gpu.setattr(
        device_check,
        "_reports",
        ["operation cudaGetDeviceCount failed: CUDA driver version is insufficient for CUDA runtime"],
    )
    message = refusal(usable_devices)
    for word in ("cannot use its GPU", "driver is older", "update the driver", "farm.worker.num_gpus=0"):
        assert word in message


def test_a_user_who_hides_the_gpu_gets_the_cpu(with_gpu: pytest.MonkeyPatch) -> None:
    with_gpu.delenv("JAX_PLATFORMS", raising=False)
    with_gpu.setattr(device_check, "has_nvidia_gpu", lambda: False)
    assert usable_devices()[0].platform == "cpu"


def test_memory_that_ends_while_compiling_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    process = WorkerProcess()
    monkeypatch.setitem(
        process._targets, "window_bytes", type("Target", (), {"window_bytes": staticmethod(failing(OUT_OF_MEMORY))})
    )
    monkeypatch.setattr(jax, "local_devices", lambda: [type("Device", (), {"platform": "gpu"})])
    message = refusal(lambda: process.call("window_bytes", 0, (64, 64), (64, 64)))
    for word in ("GPU", "memory is used up", "68719476736", "tiles.size"):
        assert word in message


def test_memory_that_ends_in_a_step_is_one_line_without_other_workers() -> None:
    class Worker:
        call = staticmethod(failing(OUT_OF_MEMORY))

    executor = InlineExecutor([Worker()], guard=readable_errors)
    message = refusal(lambda: executor.call(0, "compute_gradient"))
    assert "too little memory" in message
    assert "68719476736" in message


def test_a_defect_of_the_program_is_not_explained_away() -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match="parameter 0"), readable_errors():
        failing("INVALID_ARGUMENT: Executable expected parameter 0 of size 4")()
    with pytest.raises(ValueError, match="ut of memory"), readable_errors():
        raise ValueError(OUT_OF_MEMORY)


def test_a_worker_whose_device_has_failed_is_replaced() -> None:
    from ray.exceptions import RayTaskError

    cause = jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered")
    error = RayTaskError("call", "(pid=4711, ip=10.0.0.7)", cause)
    failure = read_failure(error)
    assert "has failed" in failure.reason
    assert failure.pids == {4711}


def test_a_cpu_has_no_versions_beyond_those_of_the_program() -> None:
    assert device_versions(jax.local_devices()[0]) == {}


def test_a_gpu_tells_the_versions_of_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jax._src import lib

    class Libraries:
        cuda_runtime_get_version = staticmethod(lambda: 12090)
        cudnn_get_version = staticmethod(lambda: 91002)
        cublas_get_version = staticmethod(failing("cuBlas internal error"))

    driver = tmp_path / "version"
    driver.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.133.20  Sun Apr 13 04:50:56 UTC 2025\nGCC 13.3.0\n"
    )
    monkeypatch.setattr(lib, "cuda_versions", Libraries)
    monkeypatch.setattr(device_check, "_DRIVER_FILE", driver)
    # The flags that JAX has started with, whatever they are by now.
    started = {"XLA_FLAGS": "--xla_gpu_autotune_level=0"}
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=4")
    device_check._cuda_versions.cache_clear()
    try:
        monkeypatch.setattr(device_check, "devices_environment", lambda: started)
        versions = device_versions(type("Device", (), {"platform": "gpu"}))  # type: ignore[arg-type]
        monkeypatch.setattr(device_check, "devices_environment", lambda: None)
        assert device_versions(type("Device", (), {"platform": "gpu"}))["xla_flags"] == "unknown"  # type: ignore[arg-type]
    finally:
        device_check._cuda_versions.cache_clear()
    assert versions.pop("jaxlib")
    expected = {"xla_flags": "--xla_gpu_autotune_level=0", "cuda": "12090", "cudnn": "91002", "driver": "570.133.20"}
    assert versions == expected


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A directory with JAX's real support for CUDA alone, on a machine without a driver."""
    if reason := missing("cuda"):
        pytest.skip(reason)
    (tmp_path / "packages" / "jax_plugins").mkdir(parents=True)
    for name in ("jax_plugins/xla_cuda12", "jax_cuda12_plugin"):
        (tmp_path / "packages" / name).symlink_to(DIRECTORY / name)
    return tmp_path / "packages"


def rendered(plugin: Path, *words: str, platform: str = "", gpu_file: str = "") -> subprocess.CompletedProcess[str]:
    """A render in a process of its own, with the plugin; `gpu_file` stands for the file by which a GPU is known."""
    code = (
        "import sys; from render.system import accelerators\n"
        f"if {gpu_file!r}: accelerators._NVIDIA_FILES = ({gpu_file!r},)\n"
        "from render.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{plugin}", "RENDER_OVERRIDES": "", "JAX_PLATFORMS": platform}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    return subprocess.run(
        [sys.executable, "-c", code, "render", *TINY, *words],
        cwd=plugin.parent, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def own_lines(finished: subprocess.CompletedProcess[str]) -> list[str]:
    """What the program itself says on standard error: CUDA's libraries have a line of their own that nothing stops."""
    assert "Traceback" not in finished.stderr, finished.stderr
    return [line for line in finished.stderr.splitlines() if line.startswith("render: ")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "platform", "has_file", "expected"),
    [
        (["farm.worker.num_gpus=1"], "", False, "driver is missing"),
        ([], "cuda", False, "driver is missing"),
        ([], "", True, "driver is missing"),
    ],
    ids=["asked for", "by environment", "a GPU is there"],
)
def test_a_gpu_without_its_driver_is_refused(
    words: list[str], platform: str, has_file: bool, expected: str, plugin: Path, tmp_path: Path
) -> None:
    gpu_file = tmp_path / "nvidia0"
    gpu_file.touch()
    finished = rendered(plugin, *words, platform=platform, gpu_file=str(gpu_file) if has_file else "")
    assert finished.returncode == 2, finished.stderr
    (line,) = own_lines(finished)
    for word in ("cannot use its GPU", expected, "farm.worker.num_gpus=0"):
        assert word in line
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.slow
def test_the_gpu_extra_on_a_machine_without_a_gpu_renders_on_the_cpu(plugin: Path) -> None:
    finished = rendered(plugin)
    assert finished.returncode == 0, finished.stderr
    assert own_lines(finished) == []
