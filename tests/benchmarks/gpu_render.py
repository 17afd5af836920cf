"""Speed of the kernel and of a whole render on one machine's accelerator, in float32 and bfloat16.

    python -m tests.benchmarks.gpu_render [--quick] [--json] [--model M] [--weights FILE] [--layer L] [--side PX]
                                          [--width PX] [--canvas PX] [--tile PX] [--profile DIR]

From a checkout with `make setup EXTRAS=cuda` (or tpu); installs nothing. Says what a plain matrix product reaches, then for
each precision what the gradient of a window of `side` px does: megapixels of window a second, TFLOP/s by the network's own
count, and how much that is of the product in bfloat16. Then how far the two gradients are apart; in bfloat16 what smaller
windows do by the batch; and one worker's whole step of a gigapixel, `canvas` px a side in tiles of `tile`, its block in the
device's memory, beside that of a block in the host's. Where there is no memory or time for so much a part is stepped, and
said to be one. Last a real render of sample:hubble at `width` px in each precision: its speed, how busy the device was, and
how far the pictures are apart. `--profile` has the profiler trace one step of the resident block, for TensorBoard or
Perfetto. `--quick` does all of it with tiny sizes, for a machine without an accelerator; `--json` prints one JSON object
and nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from shutil import which
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from render.config.compose import load_config
from render.config.schema import Config
from render.dreaming.objectives import KernelInputs
from render.farm.messages import WorkerFacts
from render.farm.worker.process import process_facts, use_compilation_cache
from render.geometry.geometry import KernelShape
from render.job.job import draft, prepared, render
from render.job.resolve import NetworkChoice
from render.job.weight_loading import load_weights
from render.networks.weights import Loaded
from tests.benchmarks.device import kernel_of, measure_batch, measure_step, seconds_of

PRECISIONS = ("float32", "bfloat16")
_SMI = "utilization.gpu,memory.used,power.draw"


def measure_product(side: int, precision: str, min_seconds: float) -> float:
    """Return the TFLOP/s of the product of two square matrices."""
    matrix = jax.random.normal(jax.random.key(0), (side, side), jnp.float32).astype(precision)
    product = jax.jit(lambda a, b: a @ b)
    return 2 * side**3 / seconds_of(lambda: product(matrix, matrix), min_seconds) / 1e12


def measure_kernel(
    loaded: Loaded, layer: str, side: int, precision: str, min_seconds: float
) -> tuple[dict[str, float], np.ndarray]:
    """Return the speed of one device on a window in its memory, and the gradient."""
    kernel = kernel_of(loaded, layer, precision)
    architecture = kernel.programs.network.architecture
    shape = KernelShape((side, side), (side, side))
    window = jnp.asarray(np.random.default_rng(0).normal(128, 30, (side, side, 3)).clip(0, 255), jnp.float32)
    given = KernelInputs(0, (1.0,))
    memory = kernel.memory(shape)
    seconds = seconds_of(lambda: kernel(shape, window, given, (0, 0)), min_seconds)  # type: ignore[arg-type]
    gradient = np.asarray(kernel(shape, window, given, (0, 0)))  # type: ignore[arg-type]
    results = {
        "seconds": seconds,
        "megapixels_per_second": side**2 / seconds / 1e6,
        "tflops": architecture.gradient_flops(shape.window, shape.core) / seconds / 1e12,
        "memory_gb": memory / 1e9,
        "compile_seconds": kernel.programs.executables.counts.seconds,
    }
    return results, gradient


def measure_resident(
    settings: argparse.Namespace, loaded: Loaded, machine: WorkerFacts, min_seconds: float
) -> dict[str, Any]:
    """Return the speed on batches of small windows, and of steps of one worker, in bfloat16."""
    quick = settings.quick
    kernel = kernel_of(loaded, settings.layer, "bfloat16")
    sides, batches = ((96, 128), (1, 2)) if quick else ((512, 1024, 2048), (1, 2, 4, 8, 16))
    tried = (measure_batch(kernel, side, batch, min_seconds, machine.device_bytes) for side in sides for batch in batches)
    windows = [row for row in tried if row]
    rate = 1e6 * max(row["megapixels_per_second"] for row in windows)
    canvas, tile = settings.canvas or (160 if quick else 32768), settings.tile or (64 if quick else 2048)
    # The host's is only beside it: by the pixel it takes as long for a part.
    blocks = (canvas, True, settings.profile), (min(canvas, max(2 * tile, 8192)), False, None)
    steps = [
        measure_step(kernel, loaded, machine, side=side, tile=tile, rate=rate, resident=resident, profile=profile)
        for side, resident, profile in blocks
    ]
    return {"batches": windows, "steps": steps}


class Watch:
    """Samples how busy the NVIDIA devices are while something runs, where nvidia-smi is there."""

    def __enter__(self) -> Watch:
        self._lines: list[str] = []
        command = ["nvidia-smi", f"--query-gpu={_SMI}", "--format=csv,noheader,nounits", "-lms", "200"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True) if which("nvidia-smi") else None
        if self._process is not None and (stream := self._process.stdout) is not None:
            self._reader = threading.Thread(target=lambda: self._lines.extend(stream), daemon=True)
            self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._reader.join()

    @property
    def summary(self) -> dict[str, float] | None:
        """Return means over the samples, and the peak memory; None without samples."""
        return summary(self._lines)


def summary(lines: list[str]) -> dict[str, float] | None:
    """Return the summary of nvidia-smi's lines, without quantities that they do not report."""
    columns: list[list[float]] = [[], [], []]
    for line in lines:
        for column, word in zip(columns, line.split(","), strict=False):
            try:
                column.append(float(word))
            except ValueError:
                continue
    busy, memory, power = columns
    if not busy:
        return None
    results = {"utilization_percent": statistics.fmean(busy)}
    if memory:
        results["memory_gb"] = max(memory) * 2**20 / 1e9
    return results | ({"watts": statistics.fmean(power)} if power else {})


def measure_render(config: Config) -> tuple[dict[str, Any], np.ndarray]:
    """Render a whole job in this process; return its speed and the finished picture.

    Rates are those of the last octave's median step: compiling is in the first.
    """
    with prepared(draft(config)) as job, Watch() as watch:
        begun = time.perf_counter()
        (picture, *_) = render(job)
        seconds = time.perf_counter() - begun
        record = json.loads((job.resolved.directory.path / "run.json").read_text())
        step, final = statistics.median(record["octaves"][-1]["seconds"]), job.plan.final
        network = job.loaded.architecture.truncated(job.resolved.schedule.layers)
        results = {
            "seconds": seconds,
            "step_seconds": step,
            "megapixels_per_second": final.grid.canvas.area / step / 1e6,
            "window_megapixels_per_second": final.step_window_pixels / step / 1e6,
            "tflops": final.grid.tiles
            * network.gradient_flops(final.grid.window_shape, final.grid.core_shape)
            / step
            / 1e12,
            "tiles": final.grid.tiles,
            "device": watch.summary,
        }
    with Image.open(picture) as image:
        return results, np.asarray(image.convert("RGB"), np.float32)


def measure(settings: argparse.Namespace) -> dict[str, Any]:
    """Measure everything."""
    machine = process_facts()
    quick, min_seconds = settings.quick, 0.05 if settings.quick else 2.0
    side = settings.side or (128 if quick else 2048)
    width = settings.width or (96 if quick else 4000)
    order = 256 if quick else 8192
    results: dict[str, Any] = {
        "device": machine.device,
        "platform": machine.platform,
        "devices": machine.devices,
        "device_gb": machine.device_bytes / 1e9,
        "versions": dict(machine.versions),
        "model": settings.model,
        "layer": settings.layer,
        "side": side,
        "width": width,
        "product_tflops": {precision: measure_product(order, precision, min_seconds) for precision in PRECISIONS},
    }
    words = [
        "image=sample:hubble",
        f"model={settings.model}",
        f"objective.terms=[{settings.layer}]",
        f"output.width={width}",
        f"octaves.count={2 if quick else 5}",
        f"octaves.steps={2 if quick else 10}",
        "farm.executor=inline",
        "quiet=true",
        *([f"model.weights={settings.weights.absolute()}"] if settings.weights else []),
    ]
    loaded = load_weights(NetworkChoice.of(load_config("preview", words).model))
    kernels, gradients, renders, pictures = {}, [], {}, []
    for precision in PRECISIONS:
        kernels[precision], gradient = measure_kernel(loaded, settings.layer, side, precision, min_seconds)
        kernels[precision]["share_of_product"] = kernels[precision]["tflops"] / results["product_tflops"]["bfloat16"]
        gradients.append(gradient)
    exact, rounded = gradients
    results["kernel"] = kernels
    results |= measure_resident(settings, loaded, machine, min_seconds)
    for row in (*results["batches"], *results["steps"]):
        row["share_of_product"] = row["tflops"] / results["product_tflops"]["bfloat16"]
    results["gradient_error"] = float(np.linalg.norm(rounded - exact) / np.linalg.norm(exact))
    with tempfile.TemporaryDirectory() as place:
        for precision in PRECISIONS:
            run = [*words, f"model.precision={precision}", f"output.dir={Path(place) / precision}"]
            renders[precision], picture = measure_render(load_config("preview", run))
            pictures.append(picture)
    apart = pictures[1] - pictures[0]
    error = float(np.square(apart).mean())
    results["render"] = renders
    results["picture"] = {
        "mean_difference": float(np.abs(apart).mean()),
        "psnr_db": 10 * math.log10(255**2 / error) if error else None,
    }
    return results


def report(results: dict[str, Any]) -> str:
    """Return the results as text for people."""
    products = ", ".join(f"{name} {value:.2f}" for name, value in results["product_tflops"].items())
    lines = [
        f"device    {results['devices']} x {results['device']} ({results['platform']}), {results['device_gb']:.1f} GB; "
        + ", ".join(f"{name} {value}" for name, value in results["versions"].items()),
        f"product   {products} TFLOP/s",
    ]
    for name, row in results["kernel"].items():
        lines.append(
            f"kernel    {name:<8}  {results['side']} px, {results['model']} {results['layer']}: "
            f"{row['megapixels_per_second']:.2f} Mpx/s, {row['tflops']:.2f} TFLOP/s, {100 * row['share_of_product']:.0f} % "
            f"of the bfloat16 product, {row['memory_gb']:.2f} GB"
        )
    lines.append(f"gradient  bfloat16 is {results['gradient_error']:.3f} from float32 (L2, relative)")
    for row in results["batches"]:
        lines.append(
            f"windows   bfloat16  {row['batch']} x {row['side']} px: {row['megapixels_per_second']:.2f} Mpx/s, "
            f"{row['tflops']:.2f} TFLOP/s, {100 * row['share_of_product']:.0f} % of the bfloat16 product"
        )
    for row in results["steps"]:
        where = "device's" if row["resident"] else "host's"
        lines.append(
            f"step      bfloat16  block of {row['side']} px in the {where} memory, {row['tiles']} tiles of {row['tile']} "
            f"px in windows of {row['window']}, {row['batch']} a call: {row['step_seconds']:.2f} s, "
            f"{row['megapixels_per_second']:.2f} Mpx/s of canvas, {row['tflops']:.2f} TFLOP/s, "
            f"{100 * row['share_of_product']:.0f} % of the bfloat16 product"
        )
    first = results["steps"][0]
    how = f"extrapolated from a block of {first['side']} px" if first["extrapolated"] else "measured"
    lines.append(f"gigapixel a step of 10^9 px of canvas takes {first['gigapixel_seconds']:.2f} s ({how})")
    for name, row in results["render"].items():
        busy = row["device"]
        watched = f", {busy['utilization_percent']:.0f} % busy" if busy else ""
        lines.append(
            f"render    {name:<8}  {results['width']} px: {row['megapixels_per_second']:.2f} Mpx/s of canvas, "
            f"{row['tflops']:.2f} TFLOP/s, {row['tiles']} tiles, a step {row['step_seconds']:.2f} s, all "
            f"{row['seconds']:.1f} s{watched}"
        )
    picture = results["picture"]
    lines.append(
        f"picture   {picture['mean_difference']:.2f} levels apart on average"
        + (f", PSNR {picture['psnr_db']:.1f} dB" if picture["psnr_db"] is not None else "")
    )
    return "\n".join(lines)


def main(words: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Kernel and render on this machine's accelerator, in both precisions.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--model", default="inception_v3")
    parser.add_argument("--weights", type=Path, help="a file of weights instead of the published ones")
    parser.add_argument("--layer", default="mixed5")
    parser.add_argument("--side", type=int, help="of the kernel's window, px")
    parser.add_argument("--width", type=int, help="of the render, px")
    parser.add_argument("--canvas", type=int, help="side of the block that is stepped, px (32768)")
    parser.add_argument("--tile", type=int, help="of that block, px (2048)")
    parser.add_argument("--profile", type=Path, metavar="DIR", help="trace a step into this directory")
    settings = parser.parse_args(words)
    use_compilation_cache()
    results = measure(settings)
    print(json.dumps(results) if settings.json else report(results))


if __name__ == "__main__":
    main(sys.argv[1:])
