"""InceptionV3 as TF-slim trained it, with its classifier of 1001 classes, of which the first stands for no class.

The graph is that of Keras' variant, convolution for convolution: TensorFlow's `SAME` is symmetric at stride 1, every
layer of stride 2 is `VALID`, average pools leave padding out, and the pool branch of mixed10 averages. TF-slim's blocks
Mixed_5b, 5c, 5d, 6a, ... 6e, 7a, 7b, 7c are mixed0 to mixed10.

The weights were trained to be run in 8 bits: every activation is clamped to the range of its tensor, whose lower end is 0,
so that the converter could drop the ReLUs. Here it is ReLU alone. The upper end is only where 8 bits stop counting: of four
sample photos at most 0.004 % of the activations lie above it, and leaving it out moves none of the ten largest logits by
more than 0.13. In a dream 0.02 % do, up to 0.6 % of a layer: those just made strong, and a clamp would end their gradient.
"""

from __future__ import annotations

from render.models.architecture import Architecture, Preprocess
from render.models.inception_v3 import INCEPTION_V3_KERAS

INCEPTION_V3_SLIM = Architecture(
    name="inception_v3_slim",
    nodes=INCEPTION_V3_KERAS.nodes,
    # The input tensor's own scale, 1/128, and zero point, 128.
    preprocess=Preprocess(mean=(128.0, 128.0, 128.0), scale=128.0),
    classes=1001,
    classifier="logits",
    native_side=299,
)
