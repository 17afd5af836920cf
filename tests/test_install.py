"""First use: make, and an installed wheel, each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from render.config.command_words import make_command
from tests.conftest import ROOT, TINY


def make(
    *words: str, timeout: float = 300, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "RENDER"))}
    return subprocess.run(
        ["make", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment | (env or {}),
        check=False,
    )


pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture(autouse=True)
def in_a_made_environment() -> None:
    if not (ROOT / ".venv" / "installed-test").exists():
        pytest.skip("needs the environment that `make test` makes")


def test_make_help_lists_every_command() -> None:
    shown = make("help").stdout
    for target in (
        "render", "export", "plan", "models", "atlas", "settings", "preflight", "view", "status", "fetch", "sweep", "setup",
        "test", "lint", "wheel", "clean", "cluster-up", "cluster-status", "cluster-down", "submit", "attach", "stop",
    ):  # fmt: skip
        assert f"make {target} " in shown


def test_what_a_cluster_needs_is_installed_where_one_is_asked_for() -> None:
    for target in ("cluster-up", "cluster-status", "cluster-down", "submit", "attach", "stop", "status"):
        assert ".[cluster]" in make("-n", "-W", "pyproject.toml", target, "cluster=local").stdout
    assert ".[cluster]" not in make("-n", "-W", "pyproject.toml", "status", "run=x").stdout


def test_compilers_for_accelerators_are_kept_out_of_the_environment() -> None:
    """Only the tests need them; without a network these are skipped, and all others run."""
    for target, names in (("test", ""), ("bench", "names=aot")):
        shown = make("-n", "-W", "tests/accelerators/requirements.txt", target, *filter(None, [names])).stdout
        (line,) = [line for line in shown.splitlines() if "requirements.txt" in line]
        assert "--no-deps --target .venv/compilers " in line
        assert "||" in shown.partition("requirements.txt")[2]
    assert "requirements.txt" not in make("-n", "-W", "tests/accelerators/requirements.txt", "bench", "names=tiles").stdout


def test_make_does_nothing_twice() -> None:
    assert make("-n", "setup").stdout.strip() in ("", "make: Nothing to be done for 'setup'.")


@pytest.mark.parametrize("stamp", ["installed", "installed-cuda", "installed-aws,cuda"])
def test_slurm_jobs_are_sent_without_a_network_once_there_is_an_environment(tmp_path: Path, stamp: str) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    submit = ("-n", f"VENV={tmp_path}", "submit", "conf=poster")
    assert "pip install" in make(*submit, "cluster=slurm").stdout
    (tmp_path / stamp).touch()
    assert "pip install" not in make(*submit, "cluster=slurm").stdout
    assert "pip install" in make(*submit, "cluster=aws-gpu").stdout


def test_make_hands_on_any_key_and_value(tmp_path: Path) -> None:
    """Blanks, shell characters, dots, brackets and dollars arrive as typed."""
    folder = tmp_path / "my (new) $ pictures; 'best'"
    done = make("render", *TINY, f"output.dir={folder}", "name=a b & c", "quiet=true")
    assert done.returncode == 0, done.stderr
    assert (folder / "a b & c.png").exists()


@pytest.fixture
def words_of_make(tmp_path: Path) -> Callable[..., list[str]]:
    """Run make with a stub of the interpreter that prints its words; return them."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    interpreter = tmp_path / "venv" / "bin" / "python"
    says = "from render.__main__ import make_overrides; print(json.dumps(make_overrides(os.environ['RENDER_OVERRIDES'])))"
    interpreter.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -c "import json, os; {says}"\n')
    interpreter.chmod(0o755)
    for name in ("", "-cluster", "-test", "-bench"):
        (tmp_path / "venv" / f"installed{name}").touch()
    (tmp_path / "venv" / "compilers").mkdir()
    (tmp_path / "venv" / "compilers" / "installed").touch()

    def run(*words: str) -> list[str]:
        done = make(f"VENV={tmp_path / 'venv'}", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_no_value_is_run_by_make(words_of_make, tmp_path: Path) -> None:
    """make expands what it exports, and a recipe what it uses: neither may run the name of a file."""
    mark = tmp_path / "RUN"
    targets = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    keys = (
        "image",
        "run",
        "name",
        "names",
        "cluster",
        "tensorflow",
        "quick",
        "conf",
        "file",
        "BIN",
        "INSTALLED",
        "octaves.count",
    )
    for target in set(targets[1].replace("\\\n", " ").split()) - {"help", "setup", "lint", "clean", "wheel", "test"}:
        words = [f"{key}=$(shell touch {mark})`touch {mark}`;touch {mark}" for key in keys]
        arrived = words_of_make(target, *words)
        assert sorted(arrived) == sorted(words), target
        assert not mark.exists(), target
    for word in (f"PYTEST=$(shell touch {mark})", f"PYTEST=`touch {mark}`;touch {mark}"):
        words_of_make("test", word)
        assert not mark.exists()
    for word in (f"EXTRAS=$(shell touch {mark})", f"EXTRAS=x]';touch {mark};'"):
        refused = make("render", word)
        assert refused.returncode == 2
        assert "choose from aws, cluster, cuda, cuda12, cuda13, gcp and tpu" in refused.stderr
        assert not mark.exists()


def test_make_hands_on_blanks_tabs_and_line_breaks(words_of_make) -> None:
    word = "image=a\tb\n  c\\ \\\\ $d $(e) #f 'g' \"h\" \u3042.jpg"
    assert words_of_make("render", word, "name=two\n\nlines") == ["name=two\n\nlines", word]


def test_a_command_that_a_page_shows_means_the_same_names(words_of_make) -> None:
    words = ["image=a$x $$(y) `z` 'q' \"d\".jpg", "name=two\nlines\tand tab", "output.title=$(shell false) ${HOME} \\"]
    command = make_command("render", words)
    assert sorted(words_of_make(*shlex.split(command)[1:])) == sorted(words)


@pytest.mark.slow
def test_set_up_survives_settings_of_pip(tmp_path: Path) -> None:
    """Settings of a user's pip may install elsewhere, or less: the environment is complete all the same."""
    project, home = tmp_path / "project", tmp_path / "home"
    (home / ".config" / "pip").mkdir(parents=True)
    (home / ".config" / "pip" / "pip.conf").write_text(
        f"[global]\ntarget = {tmp_path / 'elsewhere'}\n[install]\nuser = yes\nprefix = {tmp_path / 'elsewhere'}\n"
    )
    (project / "small").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", project)
    (project / ".constraints.txt").touch()
    (project / "small" / "__init__.py").touch()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "small"\nversion = "1"\ndependencies = ["iniconfig"]\n'
    )
    settings = {"PIP_TARGET": str(tmp_path / "elsewhere"), "PIP_NO_DEPS": "1", "PIP_REQUIRE_HASHES": "1", "PIP_USER": "1"}
    done = make("setup", cwd=project, env={"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), **settings})
    assert done.returncode == 0, done.stderr
    subprocess.run([project / ".venv" / "bin" / "python", "-I", "-c", "import small, iniconfig"], check=True)
    assert not (tmp_path / "elsewhere").exists()


def test_make_passes_on_the_refusal(tmp_path: Path) -> None:
    done = make("render", *TINY, f"output.dir={tmp_path / 'run'}", "octaves.scale=0.5")
    assert done.returncode == 2
    assert "render: octaves.scale=0.5: must be above 1" in done.stderr
    assert "Traceback" not in done.stderr


def test_make_plan_prints_a_plan_and_dreams_nothing(tmp_path: Path) -> None:
    done = make("plan", "conf=poster", f"output.dir={tmp_path / 'run'}", "output.width_cm=20", "output.dpi=100")
    assert done.returncode == 0, done.stderr
    for word in ("octave", "787 x 686", "halo", "352 px (exact)", "memory", "disk", "time", "Mpx/s", "poster.png"):
        assert word in done.stdout
    assert not (tmp_path / "run").exists()


def test_make_models_lists_layers() -> None:
    shown = make("models").stdout
    rows = {row[0]: row for row in map(str.split, shown.splitlines()) if row}
    assert rows["mixed5"][-3:] == ["768", "16", "543"]
    assert rows["inception_4c/3x3"][-3:] == ["256", "16", "267"]


@pytest.mark.slow
def test_the_wheel_renders_in_a_clean_environment(tmp_path: Path) -> None:
    """The wheel has package and configs: it runs far from the checkout."""
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path / "dist"), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as inside:
        pages = (
            "pages/viewer.html",
            "pages/style.css",
            "atlas/page.html",
            "sweeps/gallery/gallery.html",
            "sweeps/gallery/gallery.js",
        )
        assert {f"render/{name}" for name in pages} <= set(inside.namelist())
        cluster = ROOT / "cluster"
        files = [path.relative_to(cluster).as_posix() for path in cluster.rglob("*") if path.is_file()]
        clusters = {f"render/cluster/files/{name}" for name in files}
        assert clusters <= set(inside.namelist())
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "-c", ROOT / ".constraints.txt", wheel]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RENDER_OVERRIDES")}
    # With Ray, as a newcomer's render is: its processes find the installed package, too.
    words = [*TINY, "conf=noise", "image=noise", "output.dir=run", "farm.executor=ray"]
    done = subprocess.run(
        [environment / "bin" / "pareidolia", "render", *words],
        cwd=tmp_path, env=clean, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "noise.png").exists()
    where = subprocess.run(
        [python, "-c", "import render.system.paths as p; print(p.shipped_configs())"],
        cwd=tmp_path, env=clean, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert Path(where).is_relative_to(environment)
