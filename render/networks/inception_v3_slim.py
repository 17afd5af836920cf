"""InceptionV3 as trained by TF-slim, with its classifier of 1001 classes. Class 0 is a dummy.

The graph is the same as that of Keras' variant: TensorFlow's `SAME` is symmetric at stride 1, every layer of stride 2 is
`VALID`, average pools ignore padding, and the pool branch of mixed10 averages. TF-slim's blocks Mixed_5b, 5c, 5d,
6a, ... 6e, 7a, 7b, 7c are mixed0 to mixed10.

The weights were trained for 8 bits: every activation is clamped to the range of its tensor. The lower end is 0, so the
converter dropped the ReLUs. This network applies the ReLU and no upper clamp, because the upper end is only a limit of 8
bits. On four sample photos at most 0.004 % of the activations are above it, and without the clamp none of the ten largest
logits changes by more than 0.13. In a dream 0.02 % are above it, up to 0.6 % of one layer. These are the activations that
the dream made strong, and a clamp would stop their gradient.
"""

from __future__ import annotations

from render.networks.architecture import Architecture
from render.networks.inception_v3 import INCEPTION_V3_KERAS
from render.networks.nodes import Preprocess

INCEPTION_V3_SLIM = Architecture(
    name="inception_v3_slim",
    nodes=INCEPTION_V3_KERAS.nodes,
    # Scale 1/128 and zero point 128 of the input tensor.
    preprocess=Preprocess(mean=(128.0, 128.0, 128.0), scale=128.0),
    classes=1001,
    classifier="logits",
    native_side=299,
)
