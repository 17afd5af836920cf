"""Speed of a worker's kernels on a kind of node: measured there, or the roofline of its device. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from render.config.schema import NodeConfig
from render.errors import UserError
from render.planning.plan import Octave

#: Shares that kernels reach of the peak rate of products, and of the bandwidth of the device's memory. Assumed until a
#: device is measured: cuDNN's larger convolutions reach about the former, copies the latter.
PRODUCTS_REACHED, BANDWIDTH_REACHED = 0.6, 0.8


@dataclass(frozen=True)
class KernelSpeed:
    """Either the rate that kernels reach, or the peaks of a device.

    Attributes:
        tflops: Rate that kernels reach, 10^12 operations a second; None to take the roofline of the peaks.
        peak_tflops: Peak rate of products in the precision of the kernels, 10^12 operations a second.
        bandwidth: Peak bandwidth of the device's memory, GB a second.
    """

    tflops: float | None
    peak_tflops: float = 0.0
    bandwidth: float = 0.0

    def window_seconds(self, octave: Octave) -> float:
        """Return the seconds of an octave's window.

        A roofline (Williams 2009) is the longer of two times, in which products and memory are busy all along: of the
        window's operations at the rate of products, and of the bytes that its compiled kernels move at the bandwidth.
        """
        if self.tflops is not None:
            return octave.window_flops / (self.tflops * 1e12)
        return max(
            octave.window_flops / (PRODUCTS_REACHED * self.peak_tflops * 1e12),
            octave.device_traffic_bytes / (BANDWIDTH_REACHED * self.bandwidth * 1e9),
        )

    def source(self, octave: Octave) -> str:
        """Return where the seconds of an octave's kernels come from, as text."""
        if self.tflops is not None:
            return f"measured or set: {self.tflops:g} TFLOP/s"
        seconds = self.window_seconds(octave)
        reached = octave.window_flops / seconds / 1e12
        by_memory = octave.device_traffic_bytes / (BANDWIDTH_REACHED * self.bandwidth * 1e9)
        bound = "products" if seconds > by_memory else "memory"
        return (
            f"roofline of compiled bytes and operations: {reached:.3g} TFLOP/s, bound by {bound}; assumed "
            f"{PRODUCTS_REACHED:.0%} of {self.peak_tflops:g} TFLOP/s, {BANDWIDTH_REACHED:.0%} of {self.bandwidth:,g} GB/s"
        )


def kernel_speed(node: NodeConfig, precision: str) -> KernelSpeed:
    """Return the speed of a worker's kernels on a node.

    Raises:
        UserError: Neither the rate nor the peaks are known.
    """
    tflops: float | None = getattr(node, f"tflops_{precision}")
    peak: float | None = getattr(node, f"peak_tflops_{precision}")
    if tflops is not None:
        return KernelSpeed(tflops)
    if peak is None or node.device_gb_per_s is None:
        raise UserError(f"node.tflops_{precision} is not known of {node.name}: set it, or take another model.precision")
    return KernelSpeed(None, peak, node.device_gb_per_s)
