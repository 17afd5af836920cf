"""Executables kept on disk: the same bytes without tracing, and compiled anew for anything else."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from render.config.compose import load_config
from render.dreaming import executables, serialized
from render.dreaming.executables import ExecutableCounts
from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs, resolve
from render.dreaming.programs import Programs
from render.farm.worker import process
from render.farm.worker.kernel_recipe import KernelRecipe
from render.geometry.geometry import KernelShape
from render.job.job import draft, prepared, render
from render.job.program_report import shape_states, shapes_text
from render.networks.network import Network
from render.networks.weights import Loaded
from render.storage.program_files import ProgramFiles
from tests.conftest import INLINE

SHAPE = KernelShape((48, 56), (32, 40))
LAYER = "conv2d_1a_3x3"


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An entry for each time that JAX has traced a gradient."""
    noted: list[str] = []
    traced = Programs.objective_gradient

    def note(self: Programs, *arguments: object) -> object:
        noted.append("gradient")
        return traced(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Programs, "objective_gradient", note)
    return noted


@pytest.fixture
def new_kernel(inception: Loaded, tmp_path: Path) -> Callable[[], Kernel]:
    """Return a kernel as a new process would make it, with the same directory each time."""
    objectives = (resolve([LAYER], inception.architecture),)

    def make(precision: str = "float32", directory: str = "programs") -> Kernel:
        network = Network(inception.architecture.truncated([LAYER]), inception.parameters, precision=precision)
        return Kernel(Programs(network, files=ProgramFiles(tmp_path / directory)), objectives, inception)

    return make


@pytest.fixture
def fresh_environment() -> Iterator[Callable[[], None]]:
    """Return the function after which what is known of the environment is looked up again."""
    yield serialized.environment_digest.cache_clear
    serialized.environment_digest.cache_clear()


def gradient(kernel: Kernel, shape: KernelShape = SHAPE) -> bytes:
    pixels = np.random.default_rng(0).uniform(0, 255, (*shape.window, 3)).astype(np.float32)
    return np.asarray(kernel(shape, pixels, KernelInputs(0, (1.0,)), (8, 4))).tobytes()


def counts(kernel: Kernel) -> ExecutableCounts:
    return kernel.programs.executables.counts


def test_the_second_process_traces_nothing_and_computes_the_same_bytes(
    new_kernel: Callable[..., Kernel], traces: list[str]
) -> None:
    first, second = new_kernel(), new_kernel()
    expected = gradient(first)
    assert (len(traces), counts(first).traced, counts(first).loaded) == (1, 1, 0)
    assert gradient(second) == expected
    assert (len(traces), counts(second).traced, counts(second).loaded) == (1, 0, 1)
    assert 0 < counts(second).waited <= counts(second).seconds + 0.1
    # By the way that a process goes which keeps nothing.
    assert gradient(new_kernel(directory="others")) == expected
    # A second call of the same program goes through JAX's own fast path.
    assert gradient(second) == expected


def test_memory_is_known_without_loading(new_kernel: Callable[..., Kernel], traces: list[str]) -> None:
    first, second = new_kernel(), new_kernel()
    expected = first.memory(SHAPE)
    assert second.memory(SHAPE) == expected > 4 * 3 * 48 * 56
    assert (counts(second).loaded, counts(second).traced, len(traces)) == (0, 0, 1)


def test_programs_with_several_results_come_back(new_kernel: Callable[..., Kernel]) -> None:
    pixels = np.random.default_rng(1).uniform(0, 255, (48, 56, 3)).astype(np.float32)
    first, second = new_kernel(), new_kernel()
    sizes = first.programs.network.architecture.output_sizes(48, 56)
    weights = {LAYER: np.ones(sizes[LAYER], np.float32)}
    expected = first.gram_products(pixels, weights)[LAYER]
    np.testing.assert_array_equal(second.gram_products(pixels, weights)[LAYER], expected)
    assert (counts(first).traced, counts(second).traced, counts(second).loaded) == (1, 0, 1)


def test_other_shapes_and_precisions_are_other_programs(new_kernel: Callable[..., Kernel]) -> None:
    gradient(new_kernel())
    other = new_kernel()
    gradient(other, KernelShape((48, 56), (32, 36)))
    assert counts(other).traced == 1
    half = new_kernel(precision="bfloat16")
    gradient(half)
    assert counts(half).traced == 1


@pytest.mark.parametrize("name", ["__version__", "device_features", "compiler_flags", "_source_digest", "package_version"])
def test_a_program_of_another_version_or_machine_is_not_used(
    name: str, new_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch, fresh_environment: Callable[[], None]
) -> None:
    expected = gradient(new_kernel())
    monkeypatch.setattr(serialized, name, "0" if name == "__version__" else lambda *_: "another")
    fresh_environment()
    other = new_kernel()
    assert gradient(other) == expected
    assert (counts(other).traced, counts(other).loaded) == (1, 0)


def test_a_process_whose_devices_were_started_before_keeps_no_programs(
    new_kernel: Callable[..., Kernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows the flags that JAX read then: under another key its programs would be taken for those of ours."""
    monkeypatch.setattr(executables, "devices_environment", lambda: None)
    first, second = new_kernel(), new_kernel()
    assert gradient(first) == gradient(second)
    assert (counts(second).traced, counts(second).loaded) == (1, 0)
    assert not (tmp_path / "programs").exists()


def test_a_damaged_program_is_compiled_and_replaced(new_kernel: Callable[..., Kernel], tmp_path: Path) -> None:
    expected = gradient(new_kernel())
    (path,) = (tmp_path / "programs").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    assert gradient(new_kernel()) == expected
    third = new_kernel()
    assert gradient(third) == expected
    assert counts(third).traced == 0


def test_code_that_does_not_load_is_compiled(new_kernel: Callable[..., Kernel], tmp_path: Path) -> None:
    expected = gradient(new_kernel())
    (path,) = (tmp_path / "programs").iterdir()
    files = ProgramFiles(tmp_path / "programs")
    program = files.read(path.stem)
    assert program is not None
    for unusable in (
        program._replace(code=b"not code"),
        program._replace(facts={}),
        program._replace(facts={**program.facts, "kept": [10**6]}),
    ):
        files.write(path.stem, unusable)
        kernel = new_kernel()
        assert gradient(kernel) == expected
        assert counts(kernel).traced == 1


def test_another_jax_traces_and_keeps_nothing(
    new_kernel: Callable[..., Kernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serialized, "_FIELDS", {"another"})
    kernel = new_kernel()
    gradient(kernel)
    assert counts(kernel).traced == 1
    assert not (tmp_path / "programs").exists()


def test_what_is_made_ahead_counts_as_nobodys_wait(new_kernel: Callable[..., Kernel]) -> None:
    cold, warm = new_kernel(), new_kernel()
    with cold.programs.executables.ahead():
        expected = gradient(cold)
    assert (counts(cold).traced, counts(cold).waited) == (1, 0)
    with warm.programs.executables.ahead():
        assert gradient(warm) == expected
    assert (counts(warm).loaded, counts(warm).waited) == (1, 0)
    assert gradient(warm) == expected
    assert counts(warm).waited == 0


def test_work_waits_for_what_is_prepared(new_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks second, while the first is at it, gets the first's executable."""
    kernel, begun, go_on = new_kernel(), threading.Event(), threading.Event()
    read = ProgramFiles.read

    def slowly(self: ProgramFiles, key: str) -> object:
        if threading.current_thread() is ahead:
            begun.set()
            assert go_on.wait(60)
        return read(self, key)

    monkeypatch.setattr(ProgramFiles, "read", slowly)

    def prepare() -> None:
        with kernel.programs.executables.ahead():
            gradient(kernel)

    ahead = threading.Thread(target=prepare)
    ahead.start()
    assert begun.wait(60)
    threading.Timer(0.2, go_on.set).start()
    result = gradient(kernel)
    ahead.join()
    assert counts(kernel).traced == 1
    assert counts(kernel).waited > 0.1
    monkeypatch.undo()
    assert gradient(new_kernel()) == result


def test_a_second_job_traces_no_kernel_and_says_what_it_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traces: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "render")
    monkeypatch.setattr(process, "cache_directory", lambda: tmp_path / "cache")
    size = ("output.width=96", "output.height=80", "octaves.count=2", "octaves.steps=2")
    words = ["image=noise", *size, "objective.terms=[mixed0]", INLINE]
    records, traced, canvases, lines = [], [], [], []
    for run in ("first", "second"):
        before = len(traces)
        with prepared(draft(load_config("preview", [*words, f"output.dir={tmp_path / run}"]))) as job:
            lines.append(shapes_text(shape_states(job), len(job.plan.octaves)))
            (picture, *_) = render(job)
        canvases.append(Path(str(picture)).read_bytes())
        records.append(job.resolved.directory.record)
        traced.append(len(traces) - before)
    assert traced == [2, 0]
    assert canvases[0] == canvases[1]
    assert [record["programs"]["traced"] for record in records] == [2, 0]
    assert records[1]["programs"]["loaded"] == 2
    assert 0 <= records[1]["programs"]["waited"] <= records[1]["seconds"]["total"]
    assert records[1]["seconds"]["prepare"] < records[1]["seconds"]["first_step"] < records[1]["seconds"]["total"]
    assert re.fullmatch(r"2 shapes for 2 octaves, 1 to compile once: \d+ x \d+ px \d+\.\d s", lines[0])
    assert lines[1] == "2 shapes for 2 octaves, all compiled before"
    assert "programs: 2 loaded, 0 traced, 0 of them compiled" in caplog.text


def test_a_recipe_without_files_keeps_nothing(inception: Loaded, tmp_path: Path) -> None:
    recipe = KernelRecipe(inception, (resolve([LAYER], inception.architecture),))
    kernel = recipe.make(recipe.make_programs())
    gradient(kernel)
    assert counts(kernel).traced == 1
    assert not list(tmp_path.iterdir())
    assert executables.ExecutableCounts() != counts(kernel)
