"""Bytes and operations of a kernel call on an accelerator: measured by network, layer and precision. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

from render.networks.architecture import Architecture
from render.planning.layer_shares import LayerShare, share_of


class KernelWork(NamedTuple):
    """Work of a device for one window.

    Attributes:
        bytes: Bytes that its kernels read from the device's memory and write to it, without weights.
        flop: Floating-point operations of its convolutions.
    """

    bytes: int
    flop: int


_INCEPTION_V3 = (
    LayerShare("mixed0", 5.401, 2.769),
    LayerShare("mixed2", 5.496, 2.788),
    LayerShare("mixed3", 5.972, 3.014),
    LayerShare("mixed5", 5.924, 2.994),
    LayerShare("mixed7", 6.027, 3.027),
    LayerShare("mixed10", 6.385, 3.252),
)
_GOOGLENET = (
    LayerShare("inception_3a", 5.507, 2.851),
    LayerShare("inception_4c", 5.864, 3.030),
    LayerShare("inception_5b", 6.037, 3.190),
)
#: Bytes that each network's kernels read and write, by the deepest layer, from shallow to deep: see `share_of`.
#: Measured with a window of 1024 px, all of it core, compiled for an H200 without autotuning (jax 0.10.2): each
#: operand and result of a kernel is counted whole, as if nothing stayed in caches. An A100 is within a tenth of it.
#: `tests/accelerators/test_compiled.py` compiles some of them anew.
MEASURED: dict[str, tuple[LayerShare, ...]] = {
    "inception_v3": _INCEPTION_V3,
    # The same nodes but for a pool of the last block.
    "inception_v3_slim": _INCEPTION_V3,
    "googlenet": _GOOGLENET,
}
#: The same of a network that is not in the table.
_OTHER = LayerShare("", 6.0, 3.1)


def kernel_work(architecture: Architecture, window: tuple[int, int], core: tuple[int, int], precision: str) -> KernelWork:
    """Estimate the bytes and count the operations of one window on an accelerator.

    Args:
        architecture: The network, up to the deepest layer that is dreamed of.
        window: (rows, columns) of the window, px.
        core: (rows, columns) of the core, px.
        precision: Precision of the kernels, one of `render.config.schema.PRECISIONS`.
    """
    relative = share_of(MEASURED, _OTHER, architecture, precision)
    followed = architecture.followed_sizes(window, core)
    followed_bytes = sum(4 * layer.channels * math.prod(followed[layer.name]) for layer in architecture.layers.values())
    # The forward pass is of the whole window, the backward pass of what the core needs; each moves about half.
    whole_windows = (architecture.activation_bytes(*window) + followed_bytes) / 2
    return KernelWork(round(relative * whole_windows), architecture.gradient_flops(window, core))
