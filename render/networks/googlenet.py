"""GoogLeNet as BVLC trained it for Caffe: the network of the 2015 paper and pictures (Szegedy 2014, table 1).

Layer names are those of the Caffe model. The input is BGR minus the channel means. Pools round their output size up.
"""

from __future__ import annotations

from render.networks.architecture import Architecture
from render.networks.nodes import Conv, InceptionBlock, LocalResponseNorm, MaxPool, Node, Preprocess


def _inception(
    name: str, conv1: int, conv3_reduce: int, conv3: int, conv5_reduce: int, conv5: int, pool: int
) -> InceptionBlock:
    """Return an inception module; the numbers are channels, as in the paper's table 1."""
    return InceptionBlock(
        f"inception_{name}",
        (
            (Conv(f"inception_{name}/1x1", conv1, (1, 1)),),
            (
                Conv(f"inception_{name}/3x3_reduce", conv3_reduce, (1, 1)),
                Conv(f"inception_{name}/3x3", conv3, (3, 3), padding=(1, 1)),
            ),
            (
                Conv(f"inception_{name}/5x5_reduce", conv5_reduce, (1, 1)),
                Conv(f"inception_{name}/5x5", conv5, (5, 5), padding=(2, 2)),
            ),
            (
                MaxPool(f"inception_{name}/pool", 3, 1, padding=1, ceil=True),
                Conv(f"inception_{name}/pool_proj", pool, (1, 1)),
            ),
        ),
    )


def _pool(name: str) -> MaxPool:
    """Return a max pool of 3 x 3 and stride 2, as Caffe counts its windows."""
    return MaxPool(name, 3, 2, ceil=True)


NODES: tuple[Node, ...] = (
    Conv("conv1/7x7_s2", 64, (7, 7), stride=2, padding=(3, 3)),
    _pool("pool1/3x3_s2"),
    LocalResponseNorm("pool1/norm1"),
    Conv("conv2/3x3_reduce", 64, (1, 1)),
    Conv("conv2/3x3", 192, (3, 3), padding=(1, 1)),
    LocalResponseNorm("conv2/norm2"),
    _pool("pool2/3x3_s2"),
    _inception("3a", 64, 96, 128, 16, 32, 32),
    _inception("3b", 128, 128, 192, 32, 96, 64),
    _pool("pool3/3x3_s2"),
    _inception("4a", 192, 96, 208, 16, 48, 64),
    _inception("4b", 160, 112, 224, 24, 64, 64),
    _inception("4c", 128, 128, 256, 24, 64, 64),
    _inception("4d", 112, 144, 288, 32, 64, 64),
    _inception("4e", 256, 160, 320, 32, 128, 128),
    _pool("pool4/3x3_s2"),
    _inception("5a", 256, 160, 320, 32, 128, 128),
    _inception("5b", 384, 192, 384, 48, 128, 128),
)

GOOGLENET = Architecture(
    name="googlenet",
    nodes=NODES,
    preprocess=Preprocess(mean=(123.0, 117.0, 104.0), scale=1.0, order="BGR"),
    classes=1000,
    classifier="loss3/classifier",
    native_side=224,
)
