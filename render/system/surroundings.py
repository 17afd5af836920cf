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
    "jax_default_matmul_precision": "highest",
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


#: JAX's variable for the share of a GPU's memory that a process allocates, and its older name.
_MEMORY_SHARE, _OLD_MEMORY_SHARE = "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"
#: XLA's flags for GPUs: without operations whose result depends on the order of arrival, and without autotuning.
_EXCLUDING, _UNTUNED = ("--xla_gpu_exclude_nondeterministic_ops=true",), ("--xla_gpu_autotune_level=0",)


class _Devices:
    """Environment with which JAX has started its devices in this process, or is to start them.

    Attributes:
        environment: Its variables; None as long as `settle_devices` was not called in time.
        is_unknown: True once it was called too late.
    """

    environment: Mapping[str, str] | None = None
    is_unknown = False


def settle_devices() -> None:
    """Note the environment, because JAX starts its devices with it; call it before that, in every process that computes."""
    if not has_started_devices():
        _Devices.environment, _Devices.is_unknown = dict(os.environ), False
    elif _Devices.environment is None:
        _Devices.is_unknown = True


def unsettle_devices() -> None:
    """Forget the environment if JAX has not started its devices with it: it is about to change."""
    if not has_started_devices():
        _Devices.environment = None


def devices_environment() -> Mapping[str, str] | None:
    """Return the environment that JAX has started its devices with; None if nobody knows which that was.

    A notebook, for example, may have used JAX before our variables were set, which it then no longer reads.
    """
    if _Devices.is_unknown:
        return None
    return os.environ if _Devices.environment is None else _Devices.environment


def has_started_devices() -> bool:
    """Return True if JAX uses devices in this process. From then on it reads neither XLA_FLAGS nor NPROC."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    # Not public. A JAX that lacks it is taken for one that has started.
    is_initialized = getattr(bridge, "backends_are_initialized", lambda: bridge is not None)
    return bool(is_initialized())


def memory_share(default: float) -> dict[str, str]:
    """Return the variables by which JAX allocates a share of a GPU's memory: the user's own, if there is one.

    JAX refuses to start if both its variable and the older name of it have a value, so the older one gets none.

    Args:
        default: The share, 0 to 1, if the user has set neither variable.
    """
    chosen = os.environ.get(_MEMORY_SHARE) or os.environ.get(_OLD_MEMORY_SHARE) or f"{default:.2f}"
    return {_MEMORY_SHARE: chosen, _OLD_MEMORY_SHARE: ""}


def determinism_flags(deterministic: bool | str) -> str:
    """Return XLA's flags by which GPUs of one kind compute the same bytes.

    Args:
        deterministic: True for programs without atomic additions in any order, and without measuring which of several
            algorithms is the fastest, which neighbours on the machine decide; "auto" for the former alone; False for
            neither.
    """
    flags = {True: _EXCLUDING + _UNTUNED, "auto": _EXCLUDING, False: ()}[deterministic]
    return " ".join(flags)


def with_xla_flags(flags: str) -> dict[str, str]:
    """Return the variable by which XLA gets flags besides those of the user, whose own values have priority.

    Args:
        flags: Flags of the form --NAME=VALUE with spaces between them. XLA ends a process for one that it does not know.
    """
    chosen = os.environ.get("XLA_FLAGS", "").split()
    names = {flag.partition("=")[0] for flag in chosen}
    added = [flag for flag in flags.split() if flag.partition("=")[0] not in names]
    return {"XLA_FLAGS": " ".join([*chosen, *added])} if added else {}


def settle_jax() -> None:
    """Import JAX with the options that the kernels need; call it once in every process that computes."""
    if os.environ.get(_MEMORY_SHARE):
        os.environ.pop(_OLD_MEMORY_SHARE, None)
    for name in _JAX:
        # JAX reads them at import, and fails on a value that it does not know.
        os.environ.pop(name.upper(), None)
    import jax

    current = jax.config.values
    for name, value in _JAX.items():
        if name in current and current[name] != value:
            jax.config.update(name, value)
    settle_devices()


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
