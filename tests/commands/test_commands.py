"""The command table: help for every command, the words that each takes, and a start that loads little."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from render.__main__ import main, split_arguments
from render.commands.table import COMMANDS, HELP_WORDS, command_usage, usage
from render.errors import UserError
from tests.conftest import ROOT

#: Commands that take no config, and refuse words that they do not know.
STRICT = [name for name, command in COMMANDS.items() if command.root is None and command.words]


def keys_of(name: str) -> list[str]:
    """Return the keys of the `key=value` words in a command's help."""
    return [match[1] for word, _ in COMMANDS[name].words if (match := re.match(r"\[?([a-z]+)=", word))]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_function_and_help(name: str) -> None:
    command = COMMANDS[name]
    assert callable(command.load())
    assert command.load().__doc__
    assert f"\n  {name} " in usage(200)
    assert command.summary in usage(200)
    help_text = command_usage(name, 200)
    assert help_text.startswith(f"usage: python -m render {name}")
    for word, meaning in command.words:
        assert word in help_text
        assert meaning in help_text


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_help_fits_into_the_width_and_loses_no_word(width: int) -> None:
    for text, whole in [
        (usage(width), usage(1000)),
        *((command_usage(n, width), command_usage(n, 1000)) for n in COMMANDS),
    ]:
        assert text.split() == whole.split()
        for line in text.splitlines():
            assert len(line) <= width or line.startswith("usage: ") or max(map(len, line.split())) > width, line


@pytest.mark.parametrize("name", COMMANDS)
def test_make_has_every_command(name: str) -> None:
    assert re.search(rf"^{name}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_and_documented_words_are_split_as_meant(name: str) -> None:
    words = COMMANDS[name].example.split()
    command, root, others = split_arguments([name, *words])
    assert command == name
    assert [
        f"conf={root}" if word.startswith("conf=") else word for word in words if not word.startswith("conf=")
    ] == others


@pytest.mark.parametrize("name", STRICT)
def test_documented_words_are_known_and_others_are_not(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert keys_of(name)
    for key in keys_of(name):
        if (name, key) == ("classes", "model"):
            continue  # It would have to fetch the names.
        main([name, f"{key}="])
        assert "does not know" not in capsys.readouterr().err, key
    assert main([name, "no-such-key=1"]) == 2
    assert "no-such-key" in capsys.readouterr().err or name == "export"


@pytest.mark.parametrize("words", [["help"], ["-h"], ["--help"], ["conf=poster", "--help"]])
def test_help_lists_the_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (usage(200) + "\n", "")


@pytest.mark.parametrize("word", HELP_WORDS)
def test_help_on_a_command_goes_before_or_after_it(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["export", word], [word, "export"], ["export", "run=x", word]):
        assert main(words) == 0
        assert capsys.readouterr().out == command_usage("export", 200) + "\n"


def test_unknown_commands_are_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["modles"], ["modles", "help"], ["help", "modles"]):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("render: there is no command 'modles': did you mean models? choose render, plan")
    with pytest.raises(UserError, match="there is no command 'zzz': choose render, plan"):
        split_arguments(["zzz"])


def test_flag_for_a_grid_makes_a_sweep() -> None:
    assert split_arguments(["-m", "seed=1,2"]) == ("sweep", "preview", ["seed=1,2"])
    assert split_arguments(["sweep", "--multirun", "conf=layers"]) == ("sweep", "layers", [])
    assert split_arguments(["plan", "-m", "seed=1,2"]) == ("plan", "preview", ["seed=1,2", "-m"])
    with pytest.raises(UserError, match="--multirun renders a grid, and models has none: drop it"):
        split_arguments(["models", "--multirun"])


@pytest.mark.parametrize(("words", "code"), [("help", 0), ("modles", 2)])
def test_a_process_ends_with_its_code_and_all_of_its_output(words: str, code: int, tmp_path: Path) -> None:
    """It ends without Python's tidying up, after the functions that were registered for its end."""
    script = (
        "import atexit, runpy, sys; from render.commands import table; usage = table.usage; "
        "table.usage = lambda width: (atexit.register(print, 'registered'), usage(width))[1]; "
        "runpy.run_module('render', run_name='__main__', alter_sys=True)"
    )
    environment = {"PYTHONPATH": str(ROOT)}

    def run(end: str = "") -> subprocess.CompletedProcess[str]:
        command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(script)} {words} {end}"
        return subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    ended = run()
    assert ended.returncode == code
    assert [ended.stdout.endswith("registered\n"), "there is no command" in ended.stderr] == [code == 0, code == 2]
    # Whoever starts it may have closed its output.
    closed = run(">&-")
    assert (closed.returncode, closed.stderr) == (code, ended.stderr)


@pytest.mark.parametrize("words", [["help"], ["export", "help"], ["modles"], ["models", "-m"]])
def test_help_and_refusals_load_neither_numpy_nor_a_config(words: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; from render.__main__ import main; main(sys.argv[1:]); "
        "print(sorted({'hydra', 'jax', 'numpy', 'ray', 'rich', 'yaml'} & sys.modules.keys()))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert process.stdout.splitlines()[-1] == "[]", process.stderr
