"""The kernel as PyTorch users would write it: the same nodes, weights, pixels and objective, differentiated by autograd.

Convolutions, pools and the rest are PyTorch's own, ReLUs work in place as in torchvision's networks, and no gradient is
asked for of the weights. `channels_last` is the layout that PyTorch recommends for convolutions on CPUs; without it tensors
lie in PyTorch's default order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch.nn import functional

from render.networks.architecture import Architecture
from render.networks.nodes import AvgPool, Conv, InceptionBlock, LocalResponseNorm, MaxPool, Node


class TorchKernel:
    """The gradient of the mean of squares of an architecture's last layer."""

    def __init__(
        self, architecture: Architecture, parameters: Mapping[str, np.ndarray], *, channels_last: bool = False
    ) -> None:
        """`parameters` as `render.networks.network.Network` takes them."""
        self._nodes = architecture.nodes
        self._preprocess = architecture.preprocess
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._parameters = {
            name: torch.from_numpy(parameters[name].copy()).contiguous(
                memory_format=self._format if parameters[name].ndim == 4 else torch.contiguous_format
            )
            for name in architecture.parameters()
        }

    def __call__(self, window: np.ndarray) -> np.ndarray:
        """d(mean of squares)/d(pixel): (rows, columns, 3) float32. `window`: such RGB pixels, 0..255."""
        return self.differentiate(torch.from_numpy(window)).numpy()

    def differentiate(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the same of a tensor, as a tensor."""
        pixels = pixels.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self._run(self._nodes, self._enter(pixels)).square().mean(), pixels)
        return gradient

    def _enter(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the network's input, (1, channels, rows, columns)."""
        how = self._preprocess
        mean = torch.tensor(how.mean[::-1] if how.order == "BGR" else how.mean)
        ordered = pixels.flip(-1) if how.order == "BGR" else pixels
        return ((ordered - mean) / how.scale).permute(2, 0, 1)[None].contiguous(memory_format=self._format)

    def _run(self, nodes: Iterable[Node], x: torch.Tensor) -> torch.Tensor:
        for node in nodes:
            match node:
                case Conv():
                    weight, bias = (self._parameters[f"{node.name}/{kind}"] for kind in ("weight", "bias"))
                    x = functional.relu(functional.conv2d(x, weight, bias, node.stride, node.padding), inplace=True)
                case MaxPool():
                    x = functional.max_pool2d(x, node.size, node.stride, node.padding, ceil_mode=node.ceil)
                case AvgPool():
                    x = functional.avg_pool2d(x, node.size, 1, node.size // 2, count_include_pad=False)
                case LocalResponseNorm():
                    x = functional.local_response_norm(x, node.n, node.alpha, node.beta, node.k)
                case InceptionBlock():
                    x = torch.cat([self._run(branch, x) for branch in node.branches], dim=1)
        return x
