"""Compile programs for described devices: `python -m tests.accelerators.compile DIRECTORY REQUEST ...`.

DIRECTORY holds the compilers. For each REQUEST, the JSON of a `Request`, one line with the JSON of a `Report` is printed.
Weights are zeros of the right shapes: programs do not depend on them. No device, driver or cuDNN is needed, so nothing is
measured and tuned either: what runs on a device differs in the algorithms that autotuning chooses.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any


def main(directory: str, *words: str) -> int:
    """Compile each request and print its report."""
    # Python's own packages come first: JAX is that of the environment.
    sys.path.append(directory)
    output = os.fdopen(os.dup(1), "w")
    # Compilers may print: only reports go to standard output.
    os.dup2(2, 1)
    from render.system.surroundings import settle_jax
    from tests.accelerators.requests import Request

    settle_jax()
    for word in words:
        report = _compile(Request(**json.loads(word)))
        print(json.dumps(report.plain()), file=output, flush=True)
    return 0


def _compile(request: Any) -> Any:
    """Return the report of one program."""
    import jax
    from jax.sharding import SingleDeviceSharding

    from render.networks.platforms import tracing_for
    from tests.accelerators.hlo import Program
    from tests.accelerators.programs import built
    from tests.accelerators.requests import Report
    from tests.accelerators.roofline import least_seconds

    device = _device(request.device)
    sharding = SingleDeviceSharding(device)
    with tracing_for("gpu" if device.platform in ("cuda", "gpu") else device.platform):
        function, arguments = built(request)
        shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding), arguments)
        lowered = function.lower(*shapes)
    start = time.perf_counter()
    executable = lowered.compile()
    seconds = time.perf_counter() - start
    program, memory = Program(executable.as_text()), executable.memory_analysis()
    return Report(
        products=Counter(program.products),
        kernels=len(program.kernels),
        copies=sum("copy" in kernel.opcode or "transpose" in kernel.name for kernel in program.kernels),
        select_and_scatters=program.count("select-and-scatter"),
        host_transfers=sum(instruction.touches_host for instruction in program.instructions),
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        temp_bytes=memory.temp_size_in_bytes,
        accessed_bytes=program.kernel_bytes,
        touched_bytes=program.bytes_by_kind,
        flop=sum(map(program.flop_of, program.kernels)),
        least_seconds=least_seconds(program, request.device, request.precision),
        compile_seconds=seconds,
        scatters=sum(
            instruction.opcode == "scatter" and "unique_indices=true" not in instruction.attributes
            for instruction in program.instructions
        ),
    )


def _device(name: str) -> Any:
    """Return the described device."""
    from jax.experimental import topologies

    from tests.accelerators.requests import DEVICES

    platform, topology = DEVICES[name]
    if platform == "cuda":
        description = (Path(__file__).parent / "devices" / f"{name}.txtpb").read_text()
        return topologies.get_topology_desc(platform="cuda", target_config=description, topology="1x1x1").devices[0]
    bounds = (2, 2, 1)
    return topologies.get_topology_desc(platform=platform, topology_name=topology, chips_per_host_bounds=bounds).devices[0]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
