"""Settings that our processes need, regardless of the user's environment. Imports neither JAX nor Ray.

The user sets the environment for other programs: a debugging switch of JAX or Python there must neither end a render nor
change a pixel of it.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from render.errors import UserError

#: JAX options that affect results, or whether a computation runs at all, with the values that the kernels need.
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
#: Python switches that break the processes of Ray, or make them print.
_PYTHON = (
    "PYTHONDEVMODE", "PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONPROFILEIMPORTTIME", "PYTHONSAFEPATH", "PYTHONVERBOSE",
    "PYTHONWARNINGS",
)  # fmt: skip
#: Ray variables that change the environment of workers, or select another cluster than the one that is started.
_RAY = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_RUNTIME_ENV_HOOK", "RAY_TMPDIR", "RAY_REDIS_ADDRESS", "RAY_CLIENT_MODE")


def settle_jax() -> None:
    """Import JAX with the options that the kernels need; call it once in every process that computes."""
    for name in _JAX:
        # JAX reads them at import, and fails on a value that it does not know.
        os.environ.pop(name.upper(), None)
    import jax

    current = jax.config.values
    for name, value in _JAX.items():
        if name in current and current[name] != value:
            jax.config.update(name, value)


def settle_warnings() -> None:
    """Show warnings instead of raising them.

    With PYTHONWARNINGS=error any warning would end a render.
    """
    warnings.filters[:] = [rule for rule in warnings.filters if rule[0] != "error"]  # type: ignore[index]
    sys.warnoptions[:] = [option for option in sys.warnoptions if not option.startswith("error")]


@contextmanager
def clean_environment() -> Iterator[None]:
    """Inside the context, remove variables that would break a Ray that we start ourselves."""
    removed = {name: os.environ.pop(name) for name in (*_PYTHON, *_RAY) if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(removed)


@contextmanager
def changed_environment(variables: Mapping[str, str], restored: Sequence[str] = ()) -> Iterator[None]:
    """Inside the context, set variables for this process and those that it starts; restore them at its end.

    Args:
        variables: Their values.
        restored: Names of other variables that are restored, because code inside the context sets them.
    """
    before = {name: os.environ.get(name) for name in (*variables, *restored)}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def private_token() -> dict[str, str]:
    """Return the environment with a secret token for a Ray that we start ourselves.

    It keeps others out.

    Empty if the user has set the authentication of Ray. Without it, Ray would keep a token in a file of the home
    directory, which everybody on the machine may read.
    """
    if any(os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        return {}
    # With a token and no mode, Ray requires the token by default. This process would not see a mode that is set now.
    return {"RAY_AUTH_TOKEN": secrets.token_hex(32)}


def check_xla_flags() -> None:
    """Raise `UserError` for XLA_FLAGS that XLA does not know, because XLA would abort the process.

    The flags, if there are any, are tried in a separate process.
    """
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if not flags:
        return
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    trial = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, env=environment,
    )  # fmt: skip
    unknown = re.search(r"Unknown flags? in XLA_FLAGS: *(.+)", trial.stderr)
    if trial.returncode and unknown:
        raise UserError(f"XLA_FLAGS={flags}: XLA does not know {unknown[1].strip()}: take it out")
    if trial.returncode < 0:
        raise UserError(f"XLA_FLAGS={flags}: XLA does not start with it: take it out")
