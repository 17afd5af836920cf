"""What XLA makes of the kernels for accelerators, compiled here without one: see `tests.accelerators`.

Nothing is timed but the compiler. `fused` counts convolutions that add the bias and apply the ReLU; `GB whole` is what the
kernels read and write, each operand and result counted whole; `GB moved` counts only the slices of it that are read, and
`FLOP/byte` is the network's arithmetic over that. `least ms` is the roofline: every kernel takes the longer of its
products and its bytes, by the device's data sheet; `% of peak` is the network's arithmetic in that time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from render.config.schema import PRECISIONS
from render.networks.weights import MODELS
from tests.accelerators.compilers import compiled, missing
from tests.accelerators.requests import DEVICES, Report, Request
from tests.accelerators.roofline import peak_share
from tests.benchmarks.table import Table

LAYERS = {"inception_v3": "mixed5", "googlenet": "inception_4c"}

#: Sides of windows, px, by platform; a TPU's compiler takes minutes for larger ones.
SIDES = {"cuda": (512, 2048), "tpu": (256,)}
#: Smallest shares of an H200's peak in bfloat16, percent, and the side of the window, px.
_GOALS, _GOAL_SIDE = {"mixed5": 40, "inception_4c": 25}, 2048
_QUICK = [Request("h200", "inception_v3", "mixed0", precision, 160) for precision in PRECISIONS]


def measure(quick: bool) -> Table:
    rows, notes = [], []
    for platform in dict.fromkeys(platform for platform, _ in DEVICES.values()):
        requests = [request for request in (_QUICK if quick else _all()) if DEVICES[request.device][0] == platform]
        if reason := missing(platform):
            notes.append(reason)
        elif requests:
            rows += [_row(request, report) for request, report in zip(requests, compiled(requests), strict=True)]
    columns = tuple(rows[0]) if rows else ("device",)
    return Table("aot", "Kernels compiled for accelerators that are not here", columns, rows, _goals(rows), tuple(notes))


def _goals(rows: Sequence[Mapping[str, str | float]]) -> dict[str, bool]:
    """Return whether kernels reach their shares of an H200's peak in bfloat16, by roofline, if they are in the table."""
    shares = {
        row["layer"]: row["% of peak"]
        for row in rows
        if (row["device"], row["precision"], row["window"]) == ("h200", "bfloat16", str(_GOAL_SIDE))
    }
    return {
        f"{layer} at {_GOAL_SIDE} px in bfloat16: {goal} % of an H200's peak": float(shares[layer]) >= goal
        for layer, goal in _GOALS.items()
        if layer in shares
    }


def _all() -> list[Request]:
    """Return all kernels, in the order of the table."""
    return [
        Request(device, model, layer, precision, side)
        for device, (platform, _) in DEVICES.items()
        for model, layer in LAYERS.items()
        for side in SIDES[platform]
        for precision in PRECISIONS
    ]


def _row(request: Request, report: Report) -> dict[str, str | float]:
    network = MODELS[request.model].architecture.truncated([request.layer])
    flops = network.gradient_flops((request.side, request.side), (request.side, request.side))
    moved = sum(report.touched_bytes.values())
    return {
        "device": request.device,
        "model": request.model,
        "layer": request.layer,
        "precision": request.precision,
        "window": str(request.side),
        "fused": report.fused_convolutions,
        "kernels": report.kernels,
        "copies": report.copies,
        "temp GB": report.temp_bytes / 1e9,
        "GB whole": report.accessed_bytes / 1e9,
        "GB moved": moved / 1e9,
        "TFLOP": flops / 1e12,
        "FLOP/byte": flops / moved,
        **_roofline(request, report, flops),
        "compile s": report.compile_seconds,
    }


def _roofline(request: Request, report: Report, flops: int) -> dict[str, str | float]:
    """Return the least time of a kernel, where the operations of its products can be read."""
    if not report.flop:
        return {"least ms": "", "% of peak": ""}
    share = peak_share(flops, report.least_seconds, request.device, request.precision)
    return {"least ms": 1e3 * report.least_seconds, "% of peak": 100 * share}
