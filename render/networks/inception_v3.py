"""InceptionV3 (Szegedy 2015, "Rethinking the Inception Architecture"), without its classifier.

Blocks are `mixed0` to `mixed10`, as in Keras; convolutions inside them carry torchvision's branch names. Batch norm (no
gamma, epsilon 1e-3) is folded into each convolution's weight and bias when weights are converted.

There are two trained variants. The FID weights (default) scale the input by (x - 128) / 128 and use a max pool in the pool
branch of mixed10. Keras' weights scale by x / 127.5 - 1 and use an average pool there.
"""

from __future__ import annotations

from render.networks.architecture import Architecture
from render.networks.nodes import AvgPool, Conv, InceptionBlock, MaxPool, Node, Preprocess


def _conv(name: str, features: int, rows: int, columns: int | None = None) -> Conv:
    """Return a convolution of stride 1 that keeps the size."""
    columns = rows if columns is None else columns
    return Conv(name, features, (rows, columns), padding=(rows // 2, columns // 2))


def _pool_branch(name: str, features: int) -> tuple[Node, ...]:
    """Return the branch of an average pool and a 1x1 convolution."""
    return (AvgPool(f"{name}/pool"), _conv(f"{name}/branch_pool", features, 1))


def _mixed_35(name: str, pool_features: int) -> InceptionBlock:
    """Return a block of the 35 x 35 grid (figure 5 of the paper)."""
    return InceptionBlock(
        name,
        (
            (_conv(f"{name}/branch1x1", 64, 1),),
            (_conv(f"{name}/branch5x5_1", 48, 1), _conv(f"{name}/branch5x5_2", 64, 5)),
            (
                _conv(f"{name}/branch3x3dbl_1", 64, 1),
                _conv(f"{name}/branch3x3dbl_2", 96, 3),
                _conv(f"{name}/branch3x3dbl_3", 96, 3),
            ),
            _pool_branch(name, pool_features),
        ),
    )


def _reduce_35(name: str) -> InceptionBlock:
    """Return the block that halves the 35 x 35 grid."""
    return InceptionBlock(
        name,
        (
            (Conv(f"{name}/branch3x3", 384, (3, 3), stride=2),),
            (
                _conv(f"{name}/branch3x3dbl_1", 64, 1),
                _conv(f"{name}/branch3x3dbl_2", 96, 3),
                Conv(f"{name}/branch3x3dbl_3", 96, (3, 3), stride=2),
            ),
            (MaxPool(f"{name}/pool", 3, 2),),
        ),
    )


def _mixed_17(name: str, inner: int) -> InceptionBlock:
    """Return a block of the 17 x 17 grid (figure 6); `inner` channels run between 1x7 and 7x1."""
    return InceptionBlock(
        name,
        (
            (_conv(f"{name}/branch1x1", 192, 1),),
            (
                _conv(f"{name}/branch7x7_1", inner, 1),
                _conv(f"{name}/branch7x7_2", inner, 1, 7),
                _conv(f"{name}/branch7x7_3", 192, 7, 1),
            ),
            (
                _conv(f"{name}/branch7x7dbl_1", inner, 1),
                _conv(f"{name}/branch7x7dbl_2", inner, 7, 1),
                _conv(f"{name}/branch7x7dbl_3", inner, 1, 7),
                _conv(f"{name}/branch7x7dbl_4", inner, 7, 1),
                _conv(f"{name}/branch7x7dbl_5", 192, 1, 7),
            ),
            _pool_branch(name, 192),
        ),
    )


def _reduce_17(name: str) -> InceptionBlock:
    """Return the block that halves the 17 x 17 grid."""
    return InceptionBlock(
        name,
        (
            (_conv(f"{name}/branch3x3_1", 192, 1), Conv(f"{name}/branch3x3_2", 320, (3, 3), stride=2)),
            (
                _conv(f"{name}/branch7x7x3_1", 192, 1),
                _conv(f"{name}/branch7x7x3_2", 192, 1, 7),
                _conv(f"{name}/branch7x7x3_3", 192, 7, 1),
                Conv(f"{name}/branch7x7x3_4", 192, (3, 3), stride=2),
            ),
            (MaxPool(f"{name}/pool", 3, 2),),
        ),
    )


def _mixed_8(name: str, *, max_pool: bool) -> InceptionBlock:
    """Return a block of the 8 x 8 grid (figure 7)."""

    def split(branch: str) -> InceptionBlock:
        """Return a block of a 1x3 and a 3x1 convolution in parallel."""
        return InceptionBlock(
            f"{name}/{branch}",
            ((_conv(f"{name}/{branch}a", 384, 1, 3),), (_conv(f"{name}/{branch}b", 384, 3, 1),)),
        )

    pool: Node = MaxPool(f"{name}/pool", 3, 1, padding=1) if max_pool else AvgPool(f"{name}/pool")
    return InceptionBlock(
        name,
        (
            (_conv(f"{name}/branch1x1", 320, 1),),
            (_conv(f"{name}/branch3x3_1", 384, 1), split("branch3x3_2")),
            (
                _conv(f"{name}/branch3x3dbl_1", 448, 1),
                _conv(f"{name}/branch3x3dbl_2", 384, 3),
                split("branch3x3dbl_3"),
            ),
            (pool, _conv(f"{name}/branch_pool", 192, 1)),
        ),
    )


def _nodes(*, last_pool_is_max: bool) -> tuple[Node, ...]:
    """Return all nodes; the pool branch of mixed10 is a max pool or an average pool."""
    return (
        Conv("conv2d_1a_3x3", 32, (3, 3), stride=2),
        Conv("conv2d_2a_3x3", 32, (3, 3)),
        _conv("conv2d_2b_3x3", 64, 3),
        MaxPool("maxpool1", 3, 2),
        _conv("conv2d_3b_1x1", 80, 1),
        Conv("conv2d_4a_3x3", 192, (3, 3)),
        MaxPool("maxpool2", 3, 2),
        _mixed_35("mixed0", 32),
        _mixed_35("mixed1", 64),
        _mixed_35("mixed2", 64),
        _reduce_35("mixed3"),
        _mixed_17("mixed4", 128),
        _mixed_17("mixed5", 160),
        _mixed_17("mixed6", 160),
        _mixed_17("mixed7", 192),
        _reduce_17("mixed8"),
        _mixed_8("mixed9", max_pool=False),
        _mixed_8("mixed10", max_pool=last_pool_is_max),
    )


INCEPTION_V3 = Architecture(
    name="inception_v3",
    nodes=_nodes(last_pool_is_max=True),
    preprocess=Preprocess(mean=(128.0, 128.0, 128.0), scale=128.0),
)

INCEPTION_V3_KERAS = Architecture(
    name="inception_v3",
    nodes=_nodes(last_pool_is_max=False),
    preprocess=Preprocess(mean=(127.5, 127.5, 127.5), scale=127.5),
)
