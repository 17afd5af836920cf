"""The settings that our own processes need, whatever the user's environment says. Light: imports neither JAX nor Ray.

The environment is the user's, for programs of the user's: a debugging switch of JAX's or of Python's must neither end a
render nor change a pixel of it.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from render.errors import UserError

#: Options of JAX's that decide results, or whether a computation runs at all, and what kernels are written for.
_JAX: dict[str, Any] = {
    "jax_allow_f16_reductions": True,
    "jax_captured_constants_warn_bytes": 2_000_000_000,
    "jax_check_tracer_leaks": False,
    "jax_compilation_cache_expect_pgle": False,
    "jax_debug_infs": False,
    "jax_debug_key_reuse": False,
    "jax_debug_nans": False,
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_disable_jit": False,
    "jax_disable_most_optimizations": False,
    "jax_enable_checks": False,
    "jax_enable_compilation_cache": True,
    "jax_enable_custom_prng": False,
    "jax_enable_pgle": False,
    "jax_enable_x64": False,
    "jax_error_checking_behavior_divide": "ignore",
    "jax_error_checking_behavior_nan": "ignore",
    "jax_error_checking_behavior_oob": "ignore",
    "jax_explain_cache_misses": False,
    "jax_explicit_x64_dtypes": "warn",
    "jax_legacy_prng_key": "allow",
    "jax_log_compiles": False,
    "jax_no_execution": False,
    "jax_no_tracing": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_random_seed_offset": 0,
    "jax_raise_persistent_cache_errors": False,
    "jax_softmax_custom_jvp": False,
    "jax_thread_guard": False,
    "jax_threefry_partitionable": True,
    "jax_transfer_guard": None,
    "jax_transfer_guard_device_to_device": None,
    "jax_transfer_guard_device_to_host": None,
    "jax_transfer_guard_host_to_device": None,
}
#: Switches of Python's that Ray's own processes do not survive, or that print.
_PYTHON = (
    "PYTHONDEVMODE", "PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONPROFILEIMPORTTIME", "PYTHONSAFEPATH", "PYTHONVERBOSE",
    "PYTHONWARNINGS",
)  # fmt: skip
#: Ray's: programs of the user's that change what workers run in, and other clusters than the one that is started.
_RAY = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_RUNTIME_ENV_HOOK", "RAY_TMPDIR", "RAY_REDIS_ADDRESS", "RAY_CLIENT_MODE")


def settle_jax() -> None:
    """Import JAX with the options that kernels are written for; called once in every process that computes."""
    for name in _JAX:
        # Read when JAX is imported, where a word that it does not know is an error.
        os.environ.pop(name.upper(), None)
    import jax

    known = jax.config.values
    for name, value in _JAX.items():
        if name in known and known[name] != value:
            jax.config.update(name, value)


def settle_warnings() -> None:
    """Have warnings told, as they are by default: PYTHONWARNINGS=error would make each the end of a render."""
    warnings.filters[:] = [one for one in warnings.filters if one[0] != "error"]  # type: ignore[index]
    sys.warnoptions[:] = [one for one in sys.warnoptions if not one.startswith("error")]


@contextmanager
def clean_environment() -> Iterator[None]:
    """Inside, the environment has nothing that a Ray of our own, which inherits it, would not survive."""
    removed = {name: os.environ.pop(name) for name in (*_PYTHON, *_RAY) if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(removed)


def private_token() -> dict[str, str]:
    """Return the environment in which a Ray of our own takes in nobody else; the user's own settings count.

    Ray would keep a token in a file of the home directory, which everybody on the machine may read.
    """
    if any(os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        return {}
    # With a token and no mode Ray asks for the token by itself; a mode that is set would not reach this process any more.
    return {"RAY_AUTH_TOKEN": secrets.token_hex(32)}


def check_xla_flags() -> None:
    """Raise `UserError` for XLA_FLAGS that XLA does not know: it would abort the process, without the name in the end.

    Tried in a process of its own, and only where there are any.
    """
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if not flags:
        return
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    tried = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, env=environment,
    )  # fmt: skip
    unknown = re.search(r"Unknown flags? in XLA_FLAGS: *(.+)", tried.stderr)
    if tried.returncode and unknown:
        raise UserError(f"XLA_FLAGS={flags}: XLA does not know {unknown[1].strip()}: take it out")
    if tried.returncode < 0:
        raise UserError(f"XLA_FLAGS={flags}: XLA does not start with it: take it out")
