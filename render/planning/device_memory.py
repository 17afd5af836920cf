"""Memory of a kernel call on an accelerator, before it is compiled: measured by network, layer and precision. Pure."""

from __future__ import annotations

from render.networks.architecture import Architecture
from render.planning.layer_shares import LayerShare, share_of

_INCEPTION_V3 = (
    LayerShare("mixed0", 0.718, 0.381),
    LayerShare("mixed2", 0.614, 0.321),
    LayerShare("mixed5", 0.580, 0.310),
    LayerShare("mixed7", 0.655, 0.361),
    LayerShare("mixed10", 0.717, 0.408),
)
_GOOGLENET = (
    LayerShare("inception_3a", 0.720, 0.391),
    LayerShare("inception_4c", 0.508, 0.299),
    LayerShare("inception_5b", 0.512, 0.297),
)
#: Memory of each network's kernels by XLA's analysis: what they store on the way and their result, without weights
#: and pixels. By the deepest layer, from shallow to deep: see `share_of`. Measured with a window of 512 px, all of it
#: core, compiled for an H200 without autotuning (jax 0.10.2); mixed5 and inception_4c are the mean of 512 px and 1024
#: px, and inception_3a and inception_5b are of 1024 px. An A100 takes up to a fifth more in float32. cuDNN's
#: workspaces, which autotuning chooses, are not in it.
#: `tests/accelerators/test_compiled.py` compiles some of them anew.
MEASURED: dict[str, tuple[LayerShare, ...]] = {
    "inception_v3": _INCEPTION_V3,
    # The same nodes but for a pool of the last block.
    "inception_v3_slim": _INCEPTION_V3,
    "googlenet": _GOOGLENET,
}
#: The same of a network that is not in the table.
_OTHER = LayerShare("", 0.65, 0.36)


def estimated_bytes(architecture: Architecture, window: tuple[int, int], precision: str) -> int:
    """Estimate the bytes of a kernel call on an accelerator, beside weights and pixels.

    Args:
        architecture: The network, up to the deepest layer that is dreamed of.
        window: (rows, columns) of the window, px.
        precision: Precision of the kernels, one of `render.config.schema.PRECISIONS`.
    """
    relative = share_of(MEASURED, _OTHER, architecture, precision)
    return round(relative * architecture.activation_bytes(*window))
