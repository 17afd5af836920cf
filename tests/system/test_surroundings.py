"""The user's environment is theirs, and reaches nothing that computes: the same bytes under any of its switches."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from render.system.surroundings import check_xla_flags, clean_environment, private_token, settle_warnings
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


def test_a_ray_of_our_own_has_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    token = private_token()
    assert set(token) == {"RAY_AUTH_TOKEN"}
    assert len(bytes.fromhex(token["RAY_AUTH_TOKEN"])) == 32
    assert token != private_token()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert private_token() == {}


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
