"""Damaged and hostile files for all that reads bytes of others: the readers, small files to begin with, and mutations."""

from __future__ import annotations

import json
import resource
import struct
import time
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st
from PIL import Image, ImageCms
from safetensors.numpy import save

from render.commands.status import status_command
from render.config.compose import load_config
from render.config.schema import SourceConfig
from render.errors import RenderError
from render.export.metadata import read_settings
from render.export.profile import read_profile
from render.farm.checkpoint import Checkpoints, _sha256
from render.job.progress_file import read_progress
from render.networks import keras_h5, labels, tflite, torchscript, weight_files, weights
from render.networks.architecture import Architecture
from render.networks.declared import Expected
from render.networks.inception_v3 import INCEPTION_V3_KERAS
from render.networks.inception_v3_slim import INCEPTION_V3_SLIM
from render.networks.nodes import Conv, Preprocess
from render.preflight.header import read_header
from render.source.source import open_source
from render.sweeps.axes.points_file import read_points
from render.sweeps.breeding.favourites import read_favourites
from tests.networks.test_slim import small_graph

#: What one read may take, s, and by how much the process may grow in all, bytes.
MAX_SECONDS, MAX_GROWTH = 10.0, 2 << 30

TINY = Architecture("tiny", (Conv("conv", 2, (2, 2)), Conv("more", 1, (1, 1))), Preprocess((0.0, 0.0, 0.0), 1.0))
_PARAMETERS = {name: np.ones(shape, np.float32) for name, shape in TINY.parameters().items()}
_DEFAULTS = "defaults: [{job: default}, {model: inception_v3}, {objective: auto}, _self_]\n"

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Target:
    """A reader, the name that its file has, whole files to begin with, and other files that lie beside it.

    `allowed` is raised by a part of the program whose callers make one line of it.
    """

    file: str
    read: Read
    seeds: tuple[bytes, ...]
    beside: tuple[tuple[str, bytes], ...] = ()
    allowed: tuple[type[Exception], ...] = ()


def check(target: Target, directory: Path, content: bytes) -> str | None:
    """What is wrong with how a file is read; None where it is read or refused as it should be."""
    for name, beside in (*target.beside, (target.file, content)):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(beside)
    begun, before = time.monotonic(), _peak()
    try:
        with redirect_stdout(StringIO()):
            target.read(directory / target.file)
    except (RenderError, *target.allowed) as error:
        message = str(error)
        if isinstance(error, RenderError) and (not message.isprintable() or not message):
            return f"not one printable line: {message!r}"
    except Exception as error:
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        place = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last is not None else "?"
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]} at {place}"
    if (seconds := time.monotonic() - begun) > MAX_SECONDS:
        return f"it took {seconds:.0f} s"
    if (growth := _peak() - before) > MAX_GROWTH:
        return f"it took {growth >> 20} MiB"
    return None


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


# --- mutations ------------------------------------------------------------------------------------------------------------

_EXTREMES = st.sampled_from(
    [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1]
)
_ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([10**6, 2**31, 2**63, 10**30, -(10**12), 1e308, 5e-324]),
    st.floats(), st.text(max_size=8),
    st.sampled_from(["../../x", "/etc/passwd", "${oc.env:HOME}", "\x1b[31m", "a\nb", "[b]"]),
    st.just([]), st.just({}), st.lists(st.integers(), max_size=3), st.just([[[[[[]]]]]]),
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """One of the seeds with a few bytes changed, numbers made extreme, parts cut out, doubled or swapped."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.integers(0, 6)):
            case 0:
                content[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                width = draw(st.sampled_from([1, 2, 4, 8]))
                order: Any = draw(st.sampled_from(["little", "big"]))
                number = draw(_EXTREMES) & ((1 << 8 * width) - 1)
                content[at : at + width] = number.to_bytes(width, order)
            case 2:
                del content[at : at + draw(st.integers(1, 64))]
            case 3:
                content[at:at] = content[at : at + draw(st.integers(1, 64))] * draw(st.integers(1, 4))
            case 4:
                content[at:at] = draw(st.binary(max_size=16))
            case 5:
                del content[at:]
            case _:
                other = draw(st.integers(0, max(0, len(content) - 1)))
                content[at : at + 8], content[other : other + 8] = content[other : other + 8], content[at : at + 8]
    return bytes(content)


@st.composite
def altered_json(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """One of the seeds, valid JSON all the same, with values replaced, dropped or put elsewhere."""
    document = json.loads(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document, ()))
        path = draw(st.sampled_from(places))
        # A copy: what is drawn may be drawn again, and is changed here.
        value = json.loads(json.dumps(draw(_ODD) if draw(st.booleans()) else _at(document, draw(st.sampled_from(places)))))
        if not path:
            document = value
            continue
        holder = _at(document, path[:-1])
        if isinstance(holder, dict) and draw(st.integers(0, 3)) == 0:
            del holder[path[-1]]
        else:
            holder[path[-1]] = value
    return json.dumps(document).encode()


def _places(value: Any, path: tuple[Any, ...]) -> Any:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items)[:40]:
        yield from _places(inner, (*path, key))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def contents(target: Target) -> st.SearchStrategy[bytes]:
    """Files for a target: damaged ones, and, of JSON, altered ones."""
    if target.file.endswith(".json"):
        return st.one_of(altered_json(target.seeds), altered_json(target.seeds), damaged(target.seeds))
    return damaged(target.seeds)


# --- whole files to begin with --------------------------------------------------------------------------------------------


def _npz(write: Callable[..., None]) -> bytes:
    file = BytesIO()
    write(file, **_PARAMETERS)
    return file.getvalue()


def _hdf5(layers: int, *, keras3: bool) -> bytes:
    file = BytesIO()
    with h5py.File(file, "w") as root:
        for number in range(layers):
            suffix = f"_{number}" if number else ""
            norm = ("beta", "moving_mean", "moving_variance")
            for stem, names in (("conv2d", ("kernel",)), ("batch_normalization", norm)):
                if keras3:
                    variables = root.create_group(f"layers/{stem}{suffix}/vars")
                    variables.attrs["name"] = f"{stem}{suffix}"
                    for place, name in enumerate(names):
                        variables[str(place)] = np.ones((1, 1, 1, 1) if name == "kernel" else 1, np.float32)
                else:
                    for name in names:
                        root[f"{stem}{suffix}/{stem}/{name}:0"] = np.ones(
                            (1, 1, 1, 1) if name == "kernel" else 1, np.float32
                        )
    return file.getvalue()


def _caffemodel() -> bytes:
    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    def part(number: int, content: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(content)) + content

    layers = b""
    for layer in ("conv", "more"):
        blobs = b""
        for kind in ("weight", "bias"):
            array = _PARAMETERS[f"{layer}/{kind}"]
            shape = part(7, part(1, b"".join(map(varint, array.shape))))
            blobs += part(7, part(5, array.astype("<f4").tobytes()) + shape)
        layers += part(100, part(1, layer.encode()) + blobs)
    return layers


def _torchscript() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, size in enumerate((24, 2, 2, 2, 2, 1, 1, 1)):
            archive.writestr(f"out_jit_module/data/{number}", struct.pack(f"<{size}f", *range(size)))
    return file.getvalue()


def _picture(form: str, mode: str = "RGB", **options: Any) -> bytes:
    file = BytesIO()
    pixels = (np.arange(24 * 16 * 3).reshape(24, 16, 3) % 256).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, form, **options)
    return file.getvalue()


def _profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


_POINTS = (b"- {step_size: 2, seed: 1}\n- {objective.terms: [mixed4]}\n", b"eyes: {objective: eyes}\n")
_FAVOURITES = (
    b'version: "1"\ngeneration: 1\nshared: {image: "me.jpg"}\nranges: {step_size: [1, 4]}\n'
    b'points:\n- {step_size: "2"}\n- {objective: eyes}\nprints:\n- {step_size: "2", octaves.count: "9"}\n'
    b'sweep: {"id": "1a2b", "title": "grid"}\nratings:\n- {"point": "eyes-1", "stars": 5, "note": "good"}\n'
)
_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt><rdf:li xml:lang="x-default">'
    b'{"settings": {"seed": 1}}</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>'
)
_YAML = (
    (
        _DEFAULTS
        + "seed: 3\nobjective:\n  terms: [mixed4, {layer: mixed5, weight: 0.5}]\noctaves: {count: 2, scale: 1.3}\n"
    ).encode(),
    (
        _DEFAULTS + "a: &a [1, 2]\nobjective: {by_model: {x: *a, y: [*a, *a]}}\noutput: {title: '${name}', dpi: 1e2}\n"
    ).encode(),
    b'defaults: [{job: default}]\nname: "a\\tb"\nfarm:\n  worker: {resources: {x: 1.5}}\n',
)


def _read_picture(path: Path) -> None:
    read_header(path)
    open_source(str(path), 0, SourceConfig(max_megapixels=20.0))


def _read_h5(path: Path) -> None:
    """The reader's parts on fewer layers than the network has: all of them would take a second a file."""
    with h5py.File(path, "r") as file:
        for name, group in keras_h5._layer_groups(file):
            keras_h5._layer_name(name, group)
            for dataset in keras_h5._datasets(group).values():
                if dataset.size < 10_000:
                    keras_h5._read(dataset, "any", _Anything(TINY), kernel=True)
    keras_h5.read_parameters(path, INCEPTION_V3_KERAS)


class _Anything(Expected):
    def has(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> bool:
        return dtype.kind in "fiub"


def _load(path: Path) -> None:
    weights.check_local(path)
    weight_files.read_file(path, TINY, "")


def _read_run(path: Path) -> None:
    status_command([f"run={path.parent}"])
    read_progress(path.parent)


def _read_manifest(path: Path) -> None:
    with suppress(ValueError, TypeError, KeyError, UnicodeDecodeError):
        # A checksum that is right, so that what is below it is looked at, too.
        manifest = json.loads(path.read_bytes())
        manifest["sha256"] = _sha256(manifest["fixed"], manifest["checkpoints"])
        path.write_text(json.dumps(manifest))
    Checkpoints(path.parent).read()


_PICTURES = {
    "png": (_picture("PNG"), _picture("PNG", "RGBA", dpi=(300, 300), icc_profile=_profile()), _picture("PNG", "P")),
    "jpg": (_picture("JPEG"), _picture("JPEG", "CMYK"), _picture("JPEG", "L", progressive=True)),
    "webp": (_picture("WEBP"), _picture("WEBP", "RGBA", lossless=True)),
    "tif": (
        _picture("TIFF"),
        _picture("TIFF", "RGBA", compression="tiff_lzw"),
        _picture("TIFF", "L", compression="tiff_deflate"),
    ),
}  # fmt: skip

TARGETS: dict[str, Target] = {
    "npz": Target("w.npz", _load, (_npz(np.savez), _npz(np.savez_compressed))),
    "safetensors": Target("w.safetensors", _load, (save(_PARAMETERS),)),
    "caffemodel": Target("w.caffemodel", _load, (_caffemodel(),)),
    "h5": Target(
        "w.h5",
        _read_h5,
        (_hdf5(3, keras3=False), _hdf5(3, keras3=True)),
        # As the reader and `load` have it.
        allowed=(*weight_files.UNREADABLE, *keras_h5._DAMAGED),
    ),
    "tflite": Target(
        "w.tflite", lambda path: tflite.read_parameters(path, INCEPTION_V3_SLIM), (small_graph(), small_graph(0.25))
    ),
    "torchscript": Target("w.pt", lambda path: torchscript.read_parameters(path, TINY), (_torchscript(),)),
    "labels": Target("names.txt", labels._read_cached, (b"n01440764 tench, Tinca tinca\n" * 9,)),
    "config": Target("c.yaml", lambda path: load_config(str(path), []), _YAML),
    "points": Target(
        "p.yaml",
        lambda path: read_points(str(path), {}),
        _POINTS,
    ),
    "favourites": Target(
        "f.yaml", lambda path: read_favourites(str(path), {"objective": ["eyes"]}), (_FAVOURITES, b"- {seed: 1}\n")
    ),
    "xmp": Target("x.png", read_settings, (_picture("PNG"), _picture("PNG", xmp=_XMP)), allowed=(OSError,)),
    "icc": Target("p.icc", lambda path: read_profile(str(path)), (_profile(),)),
    **{form: Target(f"i.{form}", _read_picture, seeds) for form, seeds in _PICTURES.items()},
}


def of_run(directory: Path) -> dict[str, Target]:
    """The targets that begin with a run's files, out of the directory of one."""
    record = (directory / "run.json").read_bytes()
    told = {"octave": 0, "octaves": 1, "size": [64, 64], "step": 1, "steps": 2, "tiles": 1, "of_tiles": 1, "seconds": 1.0}
    found = {
        "run": Target("run.json", _read_run, (record,)),
        "progress": Target("progress.json", _read_run, (json.dumps(told).encode(),), (("run.json", record),)),
    }
    manifest = directory / "canvas" / "manifest.json"
    if manifest.exists():
        found["manifest"] = Target("canvas/manifest.json", _read_manifest, (manifest.read_bytes(),))
    return found


def with_seed(target: Target, content: bytes) -> Target:
    """The same target with one more file to begin with."""
    return replace(target, seeds=(*target.seeds, content))
