"""Compiled programs as facts and bytes, and back, without tracing: for programs of one device.

JAX's own way to store them (`jax.experimental.serialize_executable`) pickles what it knows of arguments and results.
Nothing is unpickled here: what a program takes follows from the arguments that it would be compiled for, and the few other
facts are numbers. That needs a class of JAX that is not public: a JAX in which its fields differ traces and compiles as
usual.
"""

from __future__ import annotations

import hashlib
import platform as machine
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from render.storage.program_files import StoredProgram
from render.system.surroundings import devices_environment
from render.system.version import __version__, package_version

try:
    from jax._src.interpreters import pxla
    from jax._src.lib import xla_client  # type: ignore[attr-defined]
# Another JAX has them elsewhere.
except ImportError:
    pxla = xla_client = None  # type: ignore[assignment]

#: Fields of `pxla.UnloadedMeshExecutable` that are known here.
_FIELDS = {
    "xla_executable", "device_list", "backend", "input_avals", "input_shardings", "output_avals", "output_shardings",
    "committed", "name", "unordered_effects", "ordered_effects", "keepalive", "host_callbacks", "kept_var_idx", "mut",
    "xla_in_layouts", "dispatch_in_layouts", "xla_out_layouts", "all_args_info", "pgle_profiler",
}  # fmt: skip
#: Beginnings of environment variables that XLA and its libraries read when they compile.
_COMPILER_VARIABLES = ("XLA_", "TF_XLA_", "TF_CUDNN_", "LIBTPU_", "NVIDIA_TF32_", "CUBLAS_", "NPROC")
#: Beginnings of environment variables and of JAX's options that change no program.
_IRRELEVANT = (
    "XLA_CLIENT_MEM_", "XLA_PYTHON_CLIENT_", "jax_compilation_cache_", "jax_persistent_cache_", "jax_log", "jax_dump",
    "jax_platforms", "jax_traceback", "jax_debug_log", "jax_mosaic", "jax_explain", "jax_include_full_tracebacks",
)  # fmt: skip
#: Results of a program: one array, or a list of them.
_LEAF, _LIST = "array", "list"


class ProgramMemory(NamedTuple):
    """XLA's analysis of a program's memory on a device, bytes: arguments, results, and what is stored in between."""

    argument: int
    output: int
    temporary: int


def memory_of(compiled: jax.stages.Compiled) -> ProgramMemory:
    """Return XLA's analysis of a compiled program."""
    analysis = compiled.memory_analysis()
    assert analysis is not None, "this backend does not say what a program needs"
    return ProgramMemory(analysis.argument_size_in_bytes, analysis.output_size_in_bytes, analysis.temp_size_in_bytes)


def stored_memory(program: StoredProgram) -> ProgramMemory | None:
    """Return the memory of a stored program without loading it, or None if its facts have none."""
    memory = program.facts.get("memory")
    if not isinstance(memory, list) or len(memory) != len(ProgramMemory._fields):
        return None
    return ProgramMemory(*memory) if all(isinstance(size, int) and size >= 0 for size in memory) else None


def can_serialize() -> bool:
    """Return True if this JAX builds compiled programs in the way that is known here."""
    kind = getattr(pxla, "UnloadedMeshExecutable", None)
    return kind is not None and {field.name for field in fields(kind)} == _FIELDS and hasattr(xla_client, "DeviceList")


def serialize(compiled: jax.stages.Compiled, code: bytes, seconds: float) -> StoredProgram | None:
    """Return a compiled program as facts and code, or None if it has anything that `deserialize` does not restore.

    Args:
        compiled: The program.
        code: Its code as XLA compiled it: see `compiled_code`.
        seconds: Seconds that it took to trace and to compile.
    """
    try:
        return _serialize(compiled, code, seconds) if can_serialize() else None
    # Parts of JAX that are not public: where one is missing, the program is compiled again.
    except AttributeError:
        return None


def _serialize(compiled: jax.stages.Compiled, code: bytes, seconds: float) -> StoredProgram | None:
    executable = getattr(compiled._executable, "_unloaded_executable", None)
    if executable is None or compiled._params.const_args:
        return None
    extras = (
        executable.unordered_effects, executable.ordered_effects, executable.keepalive, executable.host_callbacks,
        executable.mut, executable.pgle_profiler,
    )  # fmt: skip
    avals = (*executable.input_avals, *executable.output_avals)
    shardings = (*executable.input_shardings, *executable.output_shardings)
    outputs = executable.output_avals
    forms: dict[str, Any] = {_LEAF: jax.tree.structure(0), _LIST: jax.tree.structure([0] * len(outputs))}
    form = next((name for name, tree in forms.items() if tree == compiled.out_tree), None)
    if (
        form is None
        or any(extras)
        or any(layout is not None for layout in executable.dispatch_in_layouts)
        or any(aval.weak_type for aval in avals)
        or not all(isinstance(sharding, jax.sharding.SingleDeviceSharding) for sharding in shardings)
        or any(info.donated for info in jax.tree.leaves(compiled.args_info, is_leaf=lambda info: hasattr(info, "donated")))
    ):
        return None
    facts = {
        "name": executable.name,
        "kept": sorted(executable.kept_var_idx),
        "form": form,
        "outputs": [[list(aval.shape), aval.dtype.name] for aval in outputs],
        "committed": bool(executable.committed),
        "no_keywords": bool(compiled._no_kwargs),
        "memory": list(memory_of(compiled)),
        "seconds": round(seconds, 2),
    }
    return StoredProgram(facts, code)


def deserialize(program: StoredProgram, arguments: tuple[Any, ...]) -> jax.stages.Compiled | None:
    """Return the executable of a stored program, or None if it cannot be loaded here.

    Args:
        program: Result of `serialize`, of a trusted file.
        arguments: What the program was compiled for: arrays, or their shapes.
    """
    try:
        return _deserialize(program, arguments) if can_serialize() else None
    # Of whatever kind: what does not load is compiled.
    except Exception:
        return None


def _deserialize(program: StoredProgram, arguments: tuple[Any, ...]) -> jax.stages.Compiled:
    facts, device = program.facts, jax.local_devices()[0]
    leaves: list[Any]
    tree: Any
    leaves, tree = jax.tree.flatten((arguments, {}))
    avals = [jax.core.ShapedArray(leaf.shape, leaf.dtype) for leaf in leaves]
    kept = [avals[index] for index in facts["kept"]]
    outputs = [jax.core.ShapedArray(tuple(shape), np.dtype(name)) for shape, name in facts["outputs"]]
    out_tree = jax.tree.structure(0 if facts["form"] == _LEAF else [0] * len(outputs))
    sharding = jax.sharding.SingleDeviceSharding(device)
    devices = xla_client.DeviceList((device,))
    executable = pxla.UnloadedMeshExecutable(
        xla_executable=device.client.deserialize_executable(program.code, devices),
        device_list=devices,
        backend=device.client,
        input_avals=kept,
        input_shardings=[sharding] * len(kept),
        output_avals=outputs,
        output_shardings=[sharding] * len(outputs),
        committed=facts["committed"],
        name=facts["name"],
        unordered_effects=[],
        ordered_effects=[],
        keepalive=[],
        host_callbacks=[],
        kept_var_idx=set(facts["kept"]),
        mut=None,
        xla_in_layouts=[None] * len(kept),
        dispatch_in_layouts=[None] * len(kept),
        xla_out_layouts=[None] * len(outputs),
        all_args_info=None,
        pgle_profiler=None,
    ).load()
    arguments_info = tree.unflatten([jax.stages.ArgInfo(aval, False) for aval in avals])
    return jax.stages.Compiled(executable, [], arguments_info, out_tree, no_kwargs=facts["no_keywords"])


def digest(*parts: object) -> str:
    """Return the sha256 of the texts of some values, hex."""
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()


@cache
def environment_digest() -> str:
    """Return a digest of all that decides what a program is compiled to besides the program itself.

    It covers versions, our own source, the device and its features, the compiler's flags and JAX's options.
    """
    return digest(
        *(package_version(package) for package in ("jax", "jaxlib", "flax")),
        __version__,
        _source_digest(),
        device_features(),
        compiler_flags(devices_environment() or {}),
        sorted(_relevant(jax.config.values).items()),
    )


def device_features() -> tuple[str, ...]:
    """Return the texts by which this process' device, its driver and the host's processor are known."""
    device = jax.local_devices()[0]
    try:
        topology = str(xla_client.get_topology_for_devices([device]).fingerprint())
    # Not every platform describes itself so.
    except Exception:
        topology = ""
    texts = (device.platform, device.device_kind, device.client.platform_version, topology)
    return (*texts, machine.machine(), machine.processor(), *_processor_features())


def compiler_flags(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the environment variables that the compiler reads, with their values, sorted by name."""
    chosen = {name: value for name, value in environment.items() if name.startswith(_COMPILER_VARIABLES)}
    return sorted(_relevant(chosen).items())


def _processor_features() -> Sequence[str]:
    """Return the model and the features of the host's processor, where Linux tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ()
    return sorted({line for line in lines if line.partition("\t")[0].strip() in ("model name", "flags", "Features")})


def _relevant(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values, plain ones only, without those that change no program."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, bool | int | float | str | None) and not name.startswith(_IRRELEVANT)
    }


def _source_digest() -> str:
    """Return the digest of the modules that programs are traced from."""
    package = Path(__file__).parents[1]
    files = sorted(path for name in ("dreaming", "networks") for path in (package / name).glob("*.py"))
    contents = hashlib.sha256()
    for path in files:
        contents.update(hashlib.sha256(path.read_bytes()).digest())
    return contents.hexdigest()
