"""InceptionV3 from PyTorch's checkpoints and TensorFlow's graph: nothing in them is run, and hostile ones are refused."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from render.errors import UserError
from render.networks import tensorflow_graph, torch_checkpoint
from render.networks.inception_v3 import INCEPTION_V3
from render.networks.parameters import Parameters
from render.networks.pickle_text import Call, Name, Reference, read_pickle
from render.networks.weights import MODELS, load
from tests.conftest import refusal
from tests.support.weight_files import (
    inside,
    pickled_number,
    pickled_table,
    pickled_text,
    torch_legacy,
    torch_names,
    torch_zip,
    whole,
)
from tests.support.weight_files import (
    tensorflow_graph as graph_file,
)

INCEPTION_SHA256 = MODELS["inception_v3"].published.parameters_sha256
CHECKPOINTS: dict[str, Callable[[dict[str, NDArray], Path], None]] = {"zip": torch_zip, "legacy": torch_legacy}


@pytest.mark.parametrize("form", CHECKPOINTS)
def test_a_checkpoint_reads_the_same_as_the_published_weights(form: str, inception_raw: Parameters, tmp_path: Path) -> None:
    path = tmp_path / "pt_inception.pth"
    CHECKPOINTS[form](torch_names(inception_raw), path)
    loaded = load("inception_v3", path)
    assert loaded.sha256 == INCEPTION_SHA256
    assert loaded.architecture == INCEPTION_V3


@pytest.mark.parametrize("zipped", [True, False])
def test_pytorchs_own_checkpoint_reads_the_same(zipped: bool, inception_raw: Parameters, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(np.array(array)) for name, array in torch_names(inception_raw).items()}
    torch.save(state, tmp_path / "state.pth", _use_new_zipfile_serialization=zipped)
    assert load("inception_v3", tmp_path / "state.pth").sha256 == INCEPTION_SHA256


@pytest.mark.parametrize("suffix", [".pb", ".tgz"])
def test_tensorflows_graph_reads_the_same_as_the_published_weights(
    suffix: str, inception_raw: Parameters, tmp_path: Path
) -> None:
    content, path = graph_file(inception_raw), tmp_path / f"graph{suffix}"
    if suffix == ".pb":
        path.write_bytes(content)
    else:
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            member = tarfile.TarInfo("classify_image_graph_def.pb")
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    assert load("inception_v3", path).sha256 == INCEPTION_SHA256


def test_differences_of_a_checkpoint_are_named_in_one_error(inception_raw: Parameters, tmp_path: Path) -> None:
    state = torch_names(inception_raw)
    del state["Mixed_5b.branch1x1.conv.weight"]
    state["Mixed_7c.branch_pool.bn.bias"] = np.zeros(5, np.float32)
    state["Mixed_6a.branch3x3.bn.weight"] = np.full(384, 2, np.float32)
    state["layer4.conv.weight"] = np.zeros((2, 2), np.float32)
    state["Conv2d_1a_3x3.bn.running_var"] = np.zeros(32, np.int64)
    torch_zip(state, tmp_path / "other.pth")
    message = refusal(lambda: load("inception_v3", tmp_path / "other.pth"))
    for said in (
        "missing mixed0/branch1x1/weight (64, 192, 1, 1)",
        "mixed10/branch_pool/beta (5,)",
        "extra mixed3/branch3x3/gamma (384,)",
        "extra layer4/weight (2, 2)",
        "conv2d_1a_3x3/var (32,)",
    ):
        assert said in message, said


# --- pickles --------------------------------------------------------------------------------------------------------------


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._path}",)


def test_a_pickle_is_read_as_text() -> None:
    written = {"a": [1, 2.5, None, True], "b": (("x",), {"y": -(2**70)})}
    content = BytesIO(pickle.dumps(written, 2) + b"behind")
    assert read_pickle(content) == written
    assert content.read() == b"behind"
    described = read_pickle(BytesIO(pickle.dumps(Trap(Path("/nowhere")), 2)))
    assert isinstance(described, Call)
    assert described.function == Name(f"{os.name}.system")
    assert described.arguments == ("touch /nowhere",)


@pytest.mark.parametrize("form", ["in the table", "instead of the table", "in place of a storage"])
def test_nothing_in_a_checkpoint_is_run(form: str, tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "trap.pth"
    trap = pickle.dumps(Trap(sprung), 2)
    if form == "in the table":
        table = b"\x80\x02}(" + pickled_text("Conv2d_1a_3x3.conv.weight") + trap[2:-1] + b"u."
    elif form == "instead of the table":
        table = trap
    else:
        table = b"\x80\x02}(" + pickled_text("Conv2d_1a_3x3.conv.weight")
        table += b"ctorch._utils\n_rebuild_tensor_v2\n(" + trap[2:-1] + b"Q" + pickled_number(0) + b"))\x89)tRu."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", table)
    assert "is no checkpoint of InceptionV3 weights" in refusal(lambda: load("inception_v3", path))
    assert not sprung.exists()


#: Tuples of 2^60 empty tuples in all, each the pair of the one before: their text would fill any memory.
DOUBLED = b")" + b"".join(b"q%ch%c\x86" % (level, level) for level in range(60))


def hostile_pickles() -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "no end", b"\x80\x02}"
    yield "nothing on the stack", b"\x80\x02."
    yield "no mark", b"\x80\x02}}}}u."
    yield "unknown memo", b"\x80\x02h\x05."
    yield "endless text", b"\x80\x02X\xff\xff\xff\x7fabc."
    yield "deep tuples as a key", b"\x80\x02})" + b"\x85" * 300_000 + b"Ns."
    yield "deep lists", b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
    yield "too many operations", b"\x80\x02" + b"N" * 1_100_000 + b"."
    yield "a list that holds itself", b"\x80\x02]q\x00h\x00a."
    yield "an instance", b"\x80\x02(ios\nsystem\n."
    yield "a new object", b"\x80\x02cos\nsystem\n)\x81."
    yield "an extension", b"\x80\x02\x82\x01."
    yield "long number", b"\x80\x02\x8b\xff\xff\xff\x7f."
    yield "text where a number is", b"\x80\x02Iabc\n."
    yield "a class named by endless text", b"\x80\x02" + DOUBLED + pickled_text("a") + b"\x93."
    shape = b"X" + (7).to_bytes(4, "little") + b"storagectorch\nFloatStorage\nX" + (1).to_bytes(4, "little") + b"0tQ"
    yield (
        "a shape of endless text",
        b"\x80\x02}" + pickled_text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n((" + shape + b"K\x00" + DOUBLED + b")tRs.",
    )


@pytest.mark.parametrize(("name", "content"), list(hostile_pickles()))
def test_a_hostile_pickle_is_refused_in_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hostile.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    assert "hostile.pth is no checkpoint" in refusal(lambda: torch_checkpoint.read_parameters(path, INCEPTION_V3)), name


#: A checkpoint of two small arrays.
STATE = {
    "Conv2d_1a_3x3.bn.bias": np.arange(32, dtype=np.float32),
    "Conv2d_1a_3x3.bn.running_mean": np.arange(32, dtype=np.float32) + 1,
}


@settings(max_examples=300)
@given(
    form=st.sampled_from(sorted(CHECKPOINTS)),
    changes=st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 200),
)
def test_whatever_bytes_are_changed_a_checkpoint_is_refused_or_read(
    form: str, changes: list[tuple[int, int]], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.pth"
    CHECKPOINTS[form](STATE, path)
    content = bytearray(path.read_bytes())
    for place, byte in changes:
        content[place % len(content)] = byte
    path.write_bytes(content[: len(content) - cut])
    try:
        found = torch_checkpoint.read_parameters(path, INCEPTION_V3)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert all(array.ndim <= 8 for array in found.values())


def test_a_storage_that_is_forged_is_refused(tmp_path: Path) -> None:
    keys = {name: name for name in STATE}
    with zipfile.ZipFile(tmp_path / "short.pth", "w") as archive:
        archive.writestr("x/data.pkl", pickled_table(STATE, keys))
        for name in STATE:
            archive.writestr(f"x/data/{name}", b"1234")
    assert "goes past the end of its storage" in refusal(lambda: load("inception_v3", tmp_path / "short.pth"))
    with zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickled_table(STATE, keys))
    assert "is compressed or too large" in refusal(lambda: load("inception_v3", tmp_path / "packed.pth"))
    torch_legacy(STATE, tmp_path / "legacy.pth")
    content = (tmp_path / "legacy.pth").read_bytes()
    forged = content.replace((32).to_bytes(8, "little"), (1 << 62).to_bytes(8, "little"))
    (tmp_path / "legacy.pth").write_bytes(forged)
    assert "a storage goes past the end" in refusal(lambda: load("inception_v3", tmp_path / "legacy.pth"))


# --- TensorFlow graphs ----------------------------------------------------------------------------------------------------


def constant(name: str, tensor: bytes) -> bytes:
    return inside(1, inside(1, name) + inside(5, inside(1, "value") + inside(2, inside(8, tensor))))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "missing conv2d_1a_3x3/weight"),
        (b"weights" * 100, "is no TensorFlow graph"),
        (constant("conv/batchnorm/beta", whole(1, 1) + inside(2, inside(2, whole(1, 1 << 50)))), "holds 0 values"),
        (constant("conv/batchnorm/beta", whole(1, 1) + inside(2, inside(2, whole(1, -5)))), "of shape (-5,)"),
        (constant("conv/batchnorm/beta", whole(1, 3) + inside(4, b"12345678")), "holds 2 values"),
        (constant("conv/batchnorm/beta", inside(4, b"123")), "is no TensorFlow graph"),
        (inside(1, b"") * 600_000, "more than 500,000 fields"),
    ],
)
def test_a_hostile_graph_is_refused_in_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.pb"
    path.write_bytes(content)
    assert said in refusal(lambda: load("inception_v3", path))


def test_an_archive_that_unpacks_to_too_much_or_holds_no_graph_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "graph.tgz"
    with tarfile.open(path, "w:gz"):
        pass
    assert "is no TensorFlow graph" in refusal(lambda: load("inception_v3", path))
    monkeypatch.setattr(tensorflow_graph, "_MAX_ARCHIVE_BYTES", 1 << 20)
    path.write_bytes(gzip.compress(bytes(3 << 20)))
    assert "unpacks to over 1 MiB" in refusal(lambda: load("inception_v3", path))
    link = tarfile.TarInfo("classify_image_graph_def.pb")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(link)
    path.write_bytes(packed.getvalue())
    assert "is no TensorFlow graph" in refusal(lambda: load("inception_v3", path))


@pytest.mark.parametrize("form", ["sparse", "link to itself"])
def test_a_member_of_an_archive_that_is_no_plain_file_is_refused(form: str, tmp_path: Path) -> None:
    member = tarfile.TarInfo("classify_image_graph_def.pb")
    if form == "sparse":
        # As GNU tar writes sparse files: no bytes are stored for 40 GB of zeros.
        member.pax_headers = {"GNU.sparse.size": str(40 << 30), "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,0"}
    else:
        member.type, member.linkname = tarfile.SYMTYPE, member.name
    with tarfile.open(tmp_path / "graph.tgz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    assert "is no TensorFlow graph" in refusal(lambda: load("inception_v3", tmp_path / "graph.tgz"))


def test_references_of_a_pickle_stay_descriptions() -> None:
    described = read_pickle(BytesIO(b"\x80\x02(" + pickled_text("storage") + b"tQ."))
    assert isinstance(described, Reference)
    assert described.description == ("storage",)
