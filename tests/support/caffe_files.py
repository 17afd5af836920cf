"""Caffe models written from parameters by Google's protobuf runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

from render.networks.parameters import Parameters


def caffe_messages(*, packed: bool) -> dict[str, Any]:
    """Return the messages of caffe.proto that matter here, built with Google's runtime.

    Names and numbers are BVLC's. Caffe packs numbers; a writer that puts each in a field of its own is as right.
    """
    kind = descriptor_pb2.FieldDescriptorProto
    fields: dict[str, list[tuple[str, int, int, bool, str]]] = {
        "BlobShape": [("dim", 1, kind.TYPE_INT64, True, "packed")],
        "BlobProto": [
            ("num", 1, kind.TYPE_INT32, False, ""),
            ("channels", 2, kind.TYPE_INT32, False, ""),
            ("height", 3, kind.TYPE_INT32, False, ""),
            ("width", 4, kind.TYPE_INT32, False, ""),
            ("data", 5, kind.TYPE_FLOAT, True, "packed"),
            ("diff", 6, kind.TYPE_FLOAT, True, "packed"),
            ("shape", 7, kind.TYPE_MESSAGE, False, "BlobShape"),
        ],
        "LayerParameter": [
            ("name", 1, kind.TYPE_STRING, False, ""),
            ("type", 2, kind.TYPE_STRING, False, ""),
            ("bottom", 3, kind.TYPE_STRING, True, ""),
            ("top", 4, kind.TYPE_STRING, True, ""),
            ("loss_weight", 5, kind.TYPE_FLOAT, True, ""),
            ("blobs", 7, kind.TYPE_MESSAGE, True, "BlobProto"),
            ("phase", 10, kind.TYPE_INT32, False, ""),
        ],
        "V1LayerParameter": [
            ("bottom", 2, kind.TYPE_STRING, True, ""),
            ("top", 3, kind.TYPE_STRING, True, ""),
            ("name", 4, kind.TYPE_STRING, False, ""),
            ("type", 5, kind.TYPE_INT32, False, ""),
            ("blobs", 6, kind.TYPE_MESSAGE, True, "BlobProto"),
            ("blobs_lr", 7, kind.TYPE_FLOAT, True, ""),
        ],
        "NetParameter": [
            ("name", 1, kind.TYPE_STRING, False, ""),
            ("layers", 2, kind.TYPE_MESSAGE, True, "V1LayerParameter"),
            ("input", 3, kind.TYPE_STRING, True, ""),
            ("input_dim", 4, kind.TYPE_INT32, True, ""),
            ("force_backward", 5, kind.TYPE_BOOL, False, ""),
            ("layer", 100, kind.TYPE_MESSAGE, True, "LayerParameter"),
        ],
    }
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, described in fields.items():
        message = file.message_type.add(name=name)
        for field_name, number, wire, repeated, extra in described:
            added = message.field.add(
                name=field_name,
                number=number,
                type=wire,
                label=kind.LABEL_REPEATED if repeated else kind.LABEL_OPTIONAL,
            )
            if wire == kind.TYPE_MESSAGE:
                added.type_name = f".caffe.{extra}"
            elif extra == "packed":
                added.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in fields}


PACKED, UNPACKED = caffe_messages(packed=True), caffe_messages(packed=False)


def modern_caffemodel(parameters: Parameters, messages: dict[str, Any] = PACKED) -> bytes:
    net = messages["NetParameter"](name="GoogleNet", force_backward=True)
    net.layer.add(name="data", type="Data", top=["data", "label"], phase=1)
    for layer, arrays in by_layer(parameters).items():
        message = net.layer.add(name=layer, type="Convolution", bottom=["data"], top=[layer], loss_weight=[0.5])
        for array in arrays:
            blob = message.blobs.add()
            blob.shape.dim.extend(array.shape)
            blob.data.extend(array.ravel().tolist())
    return net.SerializeToString()


def legacy_caffemodel(parameters: Parameters) -> bytes:
    """Every blob with four axes, and a learning rate for each where the modern form keeps blobs."""
    net = PACKED["NetParameter"](name="GoogleNet", input=["data"], input_dim=[10, 3, 224, 224])
    net.layers.add(name="pool1", type=17, bottom=["conv1"])
    for layer, arrays in by_layer(parameters).items():
        message = net.layers.add(name=layer, type=4, bottom=["data"], top=[layer], blobs_lr=[1.0, 2.0])
        for array in arrays:
            blob = message.blobs.add()
            blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
            blob.data.extend(array.ravel().tolist())
            blob.diff.extend([0.0, 1.0])
    return net.SerializeToString()


def by_layer(parameters: Parameters) -> dict[str, list[NDArray[np.float32]]]:
    layers: dict[str, list[NDArray[np.float32]]] = {}
    for name, array in parameters.items():
        layers.setdefault(name.rpartition("/")[0], []).append(array)
    return layers
