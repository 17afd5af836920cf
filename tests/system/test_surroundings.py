"""The user's environment is theirs, and reaches nothing that computes: the same bytes under any of its switches."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxlib.xla_client import generate_pjrt_gpu_plugin_options

from render.farm.farms import InlineFarm
from render.system import surroundings
from render.system.surroundings import (
    check_xla_flags,
    clean_environment,
    determinism_flags,
    devices_environment,
    has_started_devices,
    memory_share,
    private_token,
    settle_warnings,
    with_xla_flags,
)
from tests.conftest import TINY, refusal

#: Each ended a render with a traceback, or would change its pixels.
SWITCHES = {
    "JAX_CHECK_TRACER_LEAKS": "1",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_DISABLE_JIT": "1",
    "JAX_DEBUG_INFS": "no truth value",
    "JAX_ENABLE_X64": "1",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_RANDOM_SEED_OFFSET": "7",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_TRANSFER_GUARD": "disallow",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
}


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return the function that has this process be one in which nothing was settled, and devices have started or not."""

    def begin(has_started: bool) -> None:
        monkeypatch.setattr(surroundings, "has_started_devices", lambda: has_started)
        monkeypatch.setattr(surroundings._Devices, "environment", None)
        monkeypatch.setattr(surroundings._Devices, "is_unknown", False)

    assert jax.devices()
    assert has_started_devices()
    return begin


def test_programs_are_known_by_the_threads_that_devices_were_started_with(
    new_process: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NPROC", raising=False)
    new_process(False)
    first = InlineFarm(1, threads=3)
    monkeypatch.setattr(surroundings, "has_started_devices", lambda: True)
    first.close()
    # JAX keeps its threads, whatever later farms and the user set.
    second = InlineFarm(1, threads=1)
    environment = devices_environment()
    assert environment is not None
    assert environment["NPROC"] == "3"
    second.close()


def test_nobody_knows_the_flags_of_devices_that_were_started_before(new_process: Callable[[bool], None]) -> None:
    new_process(True)
    assert devices_environment() is os.environ
    InlineFarm(1, threads=1).close()
    assert devices_environment() is None


def test_a_farm_that_started_no_devices_settles_nothing(
    new_process: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_process(False)
    InlineFarm(1, threads=3).close()
    monkeypatch.setattr(surroundings, "has_started_devices", lambda: True)
    InlineFarm(1, threads=1).close()
    assert devices_environment() is None


def test_a_ray_of_our_own_has_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    token = private_token()
    assert set(token) == {"RAY_AUTH_TOKEN"}
    assert len(bytes.fromhex(token["RAY_AUTH_TOKEN"])) == 32
    assert token != private_token()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert private_token() == {}


@pytest.mark.parametrize(
    ("variables", "share"),
    [({}, "0.45"), ({"OLD": "0.3"}, "0.3"), ({"NEW": "0.4"}, "0.4"), ({"OLD": "0.3", "NEW": "0.4"}, "0.4")],
    ids=["none", "older", "newer", "both"],
)
def test_jax_is_told_the_share_of_a_gpus_memory_by_one_variable(
    variables: dict[str, str], share: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """jaxlib itself reads them; it refuses to start with both."""
    names = {"OLD": "XLA_PYTHON_CLIENT_MEM_FRACTION", "NEW": "XLA_CLIENT_MEM_FRACTION"}
    for name in names.values():
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(names[name], value)
    if len(variables) == 2:
        with pytest.raises(ValueError, match="specified together"):
            generate_pjrt_gpu_plugin_options()
    for name, value in memory_share(0.45).items():
        monkeypatch.setenv(name, value)
    assert generate_pjrt_gpu_plugin_options()["memory_fraction"] == pytest.approx(float(share))


def test_a_render_has_the_same_bytes_under_any_switch(command, tmp_path: Path) -> None:
    for name, switches in (("plain", {}), ("switched", SWITCHES)):
        finished = command(*TINY, f"output.dir={name}", env=switches)
        assert finished.code == 0, finished.err
    pixels = {(tmp_path / name / "preview.png").read_bytes() for name in ("plain", "switched")}
    assert len(pixels) == 1


@pytest.mark.slow
def test_the_workers_of_a_ray_of_our_own_do_not_see_them_either(command, tmp_path: Path) -> None:
    rays = {"RAY_ADDRESS": "192.0.2.1:6379", "RAY_RUNTIME_ENV_HOOK": "no.such.hook", "RAY_TMPDIR": "/nonexistent"}
    assert command(*TINY, "output.dir=plain").code == 0
    finished = command(*TINY[:-1], "output.dir=ray", env={**SWITCHES, **rays})
    assert finished.code == 0, finished.err
    assert (tmp_path / "ray" / "preview.png").read_bytes() == (tmp_path / "plain" / "preview.png").read_bytes()


def test_flags_that_xla_does_not_know_are_named_once(command, monkeypatch: pytest.MonkeyPatch) -> None:
    for executor in ((), ("farm.executor=ray",)):
        flags = {"XLA_FLAGS": "--xla_cpu_enable_fast_math=false --xla_nonsense=1"}
        command(*TINY, *executor, env=flags).refused("XLA_FLAGS", "does not know --xla_nonsense=1: take it out")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    check_xla_flags()
    monkeypatch.setenv("XLA_FLAGS", "--xla_nonsense=\x1b[2J")
    assert "\x1b" not in refusal(check_xla_flags)


def test_what_ray_inherits_is_clean_and_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONOPTIMIZE", "RAY_RUNTIME_ENV_HOOK", "HOME_OF_THE_USER"):
        monkeypatch.setenv(name, "1")
    with clean_environment():
        assert {"PYTHONOPTIMIZE", "RAY_RUNTIME_ENV_HOOK"} & os.environ.keys() == set()
        assert os.environ["HOME_OF_THE_USER"] == "1"
    assert os.environ["PYTHONOPTIMIZE"] == os.environ["RAY_RUNTIME_ENV_HOOK"] == "1"


def test_a_warning_is_no_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settle_warnings()
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            warnings.warn("hear this", stacklevel=1)
        assert len(shown) == 1
        assert all(rule[0] != "error" for rule in warnings.filters)


def test_the_precision_of_products_changes_nothing_on_cpus() -> None:
    """Every process asks for the highest, which only accelerators need."""
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(96, 96)).astype(np.float32) for _ in range(2))
    product = jax.jit(lambda a, b: (a @ b, jnp.einsum("rc,r,c->c", a, b[0], b[1])))
    found = []
    for precision in (None, "highest"):
        with jax.default_matmul_precision(precision):
            found.append([array.tobytes() for array in map(np.asarray, product(left, right))])
    assert found[0] == found[1]


def test_flags_for_the_same_bytes_are_known_to_xla_and_yield_to_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown flag would end every worker's process."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    flags = determinism_flags(True)
    assert determinism_flags("auto") in flags
    assert determinism_flags(False) == ""
    assert with_xla_flags("") == {}
    assert with_xla_flags(flags) == {"XLA_FLAGS": flags}
    monkeypatch.setenv("XLA_FLAGS", flags)
    check_xla_flags()
    assert with_xla_flags(flags) == {}
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=4")
    kept, added = with_xla_flags(flags)["XLA_FLAGS"].split()
    assert (kept, added) == ("--xla_gpu_autotune_level=4", "--xla_gpu_exclude_nondeterministic_ops=true")
