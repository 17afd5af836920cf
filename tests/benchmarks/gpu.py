"""What one machine's accelerator makes of the kernel and of a whole render, in float32 and in bfloat16.

    python -m tests.benchmarks.gpu [--quick] [--json] [--model M] [--weights FILE] [--layer L] [--side PX] [--width PX]
                                   [--canvas PX] [--tile PX] [--profile DIR]

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
from render.dreaming.objectives import Given
from render.farm.messages import Facts
from render.farm.worker.process import facts, use_compilation_cache
from render.geometry.geometry import KernelShape
from render.job.job import draft, load_weights, prepared, render
from render.job.resolve import NetworkChoice
from render.networks.weights import Loaded
from tests.benchmarks.device import kernel_of, measure_batch, measure_step, seconds_of

PRECISIONS = ("float32", "bfloat16")
_SMI = "utilization.gpu,memory.used,power.draw"


def measure_product(side: int, precision: str, least: float) -> float:
    """TFLOP/s of the product of two square matrices."""
    matrix = jax.random.normal(jax.random.key(0), (side, side), jnp.float32).astype(precision)
    product = jax.jit(lambda a, b: a @ b)
    return 2 * side**3 / seconds_of(lambda: product(matrix, matrix), least) / 1e12


def measure_kernel(
    loaded: Loaded, layer: str, side: int, precision: str, least: float
) -> tuple[dict[str, float], np.ndarray]:
    """What one device does with a window that it has already, and the gradient itself."""
    kernel = kernel_of(loaded, layer, precision)
    architecture = kernel.programs.network.architecture
    shape = KernelShape((side, side), (side, side))
    window = jnp.asarray(np.random.default_rng(0).normal(128, 30, (side, side, 3)).clip(0, 255), jnp.float32)
    given = Given(0, (1.0,))
    memory = kernel.memory(shape)
    seconds = seconds_of(lambda: kernel(shape, window, given, (0, 0)), least)  # type: ignore[arg-type]
    gradient = np.asarray(kernel(shape, window, given, (0, 0)))  # type: ignore[arg-type]
    found = {
        "seconds": seconds,
        "megapixels_per_second": side**2 / seconds / 1e6,
        "tflops": architecture.gradient_flops(shape.window, shape.core) / seconds / 1e12,
        "memory_gb": memory / 1e9,
        "compile_seconds": sum(kernel.programs.compile_seconds.values()),
    }
    return found, gradient


def measure_resident(settings: argparse.Namespace, loaded: Loaded, here: Facts, least: float) -> dict[str, Any]:
    """Batches of small windows, and steps of one worker, in bfloat16."""
    quick = settings.quick
    kernel = kernel_of(loaded, settings.layer, "bfloat16")
    sides, batches = ((96, 128), (1, 2)) if quick else ((512, 1024, 2048), (1, 2, 4, 8, 16))
    tried = (measure_batch(kernel, side, batch, least, here.device_bytes) for side in sides for batch in batches)
    windows = [one for one in tried if one]
    rate = 1e6 * max(one["megapixels_per_second"] for one in windows)
    canvas, tile = settings.canvas or (160 if quick else 32768), settings.tile or (64 if quick else 2048)
    # The host's is only beside it: by the pixel it takes as long for a part.
    blocks = (canvas, True, settings.profile), (min(canvas, max(2 * tile, 8192)), False, None)
    steps = [
        measure_step(kernel, loaded, here, side=side, tile=tile, rate=rate, resident=resident, profile=profile)
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
        """Means over the samples, and the most memory; None where there are none."""
        return summary(self._lines)


def summary(lines: list[str]) -> dict[str, float] | None:
    """What nvidia-smi's lines come to; those that say nothing of a quantity are left out."""
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
    found = {"utilization_percent": statistics.fmean(busy)}
    if memory:
        found["memory_gb"] = max(memory) * 2**20 / 1e9
    return found | ({"watts": statistics.fmean(power)} if power else {})


def measure_render(config: Config) -> tuple[dict[str, Any], np.ndarray]:
    """A whole job in this process, and the finished picture.

    Rates are those of the last octave's median step: compiling is in the first.
    """
    with prepared(draft(config)) as job, Watch() as watch:
        begun = time.perf_counter()
        (picture, *_) = render(job)
        seconds = time.perf_counter() - begun
        record = json.loads((job.resolved.directory.path / "run.json").read_text())
        step, final = statistics.median(record["octaves"][-1]["seconds"]), job.plan.final
        network = job.loaded.architecture.truncated(job.resolved.schedule.layers)
        found = {
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
        return found, np.asarray(image.convert("RGB"), np.float32)


def measure(settings: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    here = facts()
    quick, least = settings.quick, 0.05 if settings.quick else 2.0
    side = settings.side or (128 if quick else 2048)
    width = settings.width or (96 if quick else 4000)
    order = 256 if quick else 8192
    found: dict[str, Any] = {
        "device": here.device,
        "platform": here.platform,
        "devices": here.devices,
        "device_gb": here.device_bytes / 1e9,
        "versions": dict(here.versions),
        "model": settings.model,
        "layer": settings.layer,
        "side": side,
        "width": width,
        "product_tflops": {precision: measure_product(order, precision, least) for precision in PRECISIONS},
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
        kernels[precision], gradient = measure_kernel(loaded, settings.layer, side, precision, least)
        kernels[precision]["share_of_product"] = kernels[precision]["tflops"] / found["product_tflops"]["bfloat16"]
        gradients.append(gradient)
    exact, rounded = gradients
    found["kernel"] = kernels
    found |= measure_resident(settings, loaded, here, least)
    for one in (*found["batches"], *found["steps"]):
        one["share_of_product"] = one["tflops"] / found["product_tflops"]["bfloat16"]
    found["gradient_error"] = float(np.linalg.norm(rounded - exact) / np.linalg.norm(exact))
    with tempfile.TemporaryDirectory() as place:
        for precision in PRECISIONS:
            run = [*words, f"model.precision={precision}", f"output.dir={Path(place) / precision}"]
            renders[precision], picture = measure_render(load_config("preview", run))
            pictures.append(picture)
    apart = pictures[1] - pictures[0]
    error = float(np.square(apart).mean())
    found["render"] = renders
    found["picture"] = {
        "mean_difference": float(np.abs(apart).mean()),
        "psnr_db": 10 * math.log10(255**2 / error) if error else None,
    }
    return found


def report(found: dict[str, Any]) -> str:
    """What was found, for people."""
    products = ", ".join(f"{name} {value:.2f}" for name, value in found["product_tflops"].items())
    lines = [
        f"device    {found['devices']} x {found['device']} ({found['platform']}), {found['device_gb']:.1f} GB; "
        + ", ".join(f"{name} {value}" for name, value in found["versions"].items()),
        f"product   {products} TFLOP/s",
    ]
    for name, one in found["kernel"].items():
        lines.append(
            f"kernel    {name:<8}  {found['side']} px, {found['model']} {found['layer']}: "
            f"{one['megapixels_per_second']:.2f} Mpx/s, {one['tflops']:.2f} TFLOP/s, {100 * one['share_of_product']:.0f} % "
            f"of the bfloat16 product, {one['memory_gb']:.2f} GB"
        )
    lines.append(f"gradient  bfloat16 is {found['gradient_error']:.3f} from float32 (L2, relative)")
    for one in found["batches"]:
        lines.append(
            f"windows   bfloat16  {one['batch']} x {one['side']} px: {one['megapixels_per_second']:.2f} Mpx/s, "
            f"{one['tflops']:.2f} TFLOP/s, {100 * one['share_of_product']:.0f} % of the bfloat16 product"
        )
    for one in found["steps"]:
        where = "device's" if one["resident"] else "host's"
        lines.append(
            f"step      bfloat16  block of {one['side']} px in the {where} memory, {one['tiles']} tiles of {one['tile']} "
            f"px in windows of {one['window']}, {one['batch']} a call: {one['step_seconds']:.2f} s, "
            f"{one['megapixels_per_second']:.2f} Mpx/s of canvas, {one['tflops']:.2f} TFLOP/s, "
            f"{100 * one['share_of_product']:.0f} % of the bfloat16 product"
        )
    first = found["steps"][0]
    how = f"extrapolated from a block of {first['side']} px" if first["extrapolated"] else "measured"
    lines.append(f"gigapixel a step of 10^9 px of canvas takes {first['gigapixel_seconds']:.2f} s ({how})")
    for name, one in found["render"].items():
        busy = one["device"]
        watched = f", {busy['utilization_percent']:.0f} % busy" if busy else ""
        lines.append(
            f"render    {name:<8}  {found['width']} px: {one['megapixels_per_second']:.2f} Mpx/s of canvas, "
            f"{one['tflops']:.2f} TFLOP/s, {one['tiles']} tiles, a step {one['step_seconds']:.2f} s, all "
            f"{one['seconds']:.1f} s{watched}"
        )
    picture = found["picture"]
    lines.append(
        f"picture   {picture['mean_difference']:.2f} levels apart on average"
        + (f", PSNR {picture['psnr_db']:.1f} dB" if picture["psnr_db"] is not None else "")
    )
    return "\n".join(lines)


def main(words: list[str]) -> None:
    """Prints what was found."""
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
    found = measure(settings)
    print(json.dumps(found) if settings.json else report(found))


if __name__ == "__main__":
    main(sys.argv[1:])
