"""What holds for every command: exit statuses, `--json`, the page of docs, and completion in real shells."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relaxon.cli import COMMANDS, build_parser, main
from relaxon.cli.reference import _iterate_subparsers, write_reference

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
WITHOUT_RESULTS = {"serve", "completion", "token add", "token remove"}
"""Commands whose output is no result that a program would read as JSON."""
LEAST = {"solve": [], "stress": ["poisson"], "solvers": [], "doctor": []}


def test_the_page_is_what_the_parsers_say():
    written = "<!-- From here on written by: python -m relaxon.cli.reference -->\n\n"
    assert written in PAGE
    assert PAGE.partition(written)[2] == write_reference(), (
        "run: python -m relaxon.cli.reference, and put it into docs/cli.md"
    )


def leaves():
    for name, parser in _iterate_subparsers(build_parser(COMMANDS)):
        for child, subparser in list(_iterate_subparsers(parser)) or [("", parser)]:
            yield f"{name} {child}".strip(), subparser


@pytest.mark.parametrize(("name", "parser"), [pytest.param(*leaf, id=leaf[0]) for leaf in leaves()])
def test_every_command_with_results_takes_json_and_every_option_is_explained(name, parser):
    options = {option for action in parser._actions for option in action.option_strings}
    assert ("--json" in options) == (name not in WITHOUT_RESULTS)
    for action in parser._actions:
        assert action.help is None or action.help == action.help.strip()


@pytest.mark.parametrize("name", ["solvers", "doctor"])
def test_json_goes_to_the_output_or_to_a_file(name, capsys, tmp_path):
    main([name, "--json"])
    shown = json.loads(capsys.readouterr().out)
    main([name, "--json", str(tmp_path / "out.json")])
    assert capsys.readouterr().out == ""
    written = json.loads((tmp_path / "out.json").read_text())
    for content in (shown, written):
        if name == "doctor":  # free memory is that of the moment
            content.pop("machine")
            content.pop("cache")  # to which others may add
    assert written == shown


def test_a_solve_s_json_is_all_there_is_on_the_output(capsys):
    status = main(["solve", "--size", "8", "--solver", "cg", "--json"])
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert status == 0
    assert content["converged"] is True
    assert "cg converged: true relative residual" in printed.err
    assert main(["solve", "--size", "12", "--solver", "cg", "--max-iterations", "1", "--quiet", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["converged"] is False
    assert main(["solve", "--problem", "list", "--json"]) == 0
    assert "pool" in json.loads(capsys.readouterr().out)


def test_a_stress_run_s_json_is_all_there_is_on_the_output(capsys):
    assert main(["stress", "poisson", "--count", "2", "--max-cells", "300", "--solver", "cg", "--json"]) == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)["trials"]) == 2
    assert "wrong CONVERGED" in printed.err


def test_a_training_s_json_has_its_settings_and_figures(capsys, tmp_path):
    arguments = ["train", "boosting", "--data", "diabetes", "--units", "4", "--out", str(tmp_path), "--json"]
    assert main(arguments) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["settings"]["units"] == content["units"] == 4
    assert content["test_error"] > 0
    assert main([*arguments[:-1], "--test", "2", "--json"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", LEAST)
def test_a_json_file_that_cannot_be_written_is_refused_before_any_work(name, capsys):
    assert main([name, *LEAST[name], "--json", "/no/such/folder/out.json"]) == 2
    printed = capsys.readouterr()
    assert "--json /no/such/folder/out.json cannot be written" in printed.err
    assert printed.out == ""


def test_a_mistake_that_argparse_finds_has_status_2(capsys):
    for arguments in ([], ["nothing"], ["solve", "--size", "many"], ["train"], ["completion", "tcsh"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    capsys.readouterr()


def test_a_server_that_is_not_there_has_status_1(capsys, monkeypatch):
    monkeypatch.setattr("relaxon.cli.remote.DEFAULT_SECONDS", 0.2)
    assert main(["solve", "--size", "8", "--target", "127.0.0.1:9"]) == 1
    assert "no server answered at 127.0.0.1:9" in capsys.readouterr().err


def asked(line: str) -> list[str]:
    """What the command answers a shell whose line ends here."""
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_IFS": "\n",
    }
    program = (
        "import os, sys; os.dup2(1, 8); os.dup2(2, 9); import relaxon.cli; sys.argv = ['relaxon']; relaxon.cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    return [word.strip() for word in done.stdout.splitlines()]


def test_the_command_completes_commands_options_choices_and_solvers():
    assert set(COMMANDS) <= set(asked("relaxon "))
    assert asked("relaxon stress poisson --max") == ["--max-cells"]
    assert set(asked("relaxon solve --boundary ")) == {"neumann", "dirichlet", "dirichlet-node", "periodic"}
    assert set(asked("relaxon solve --solver jac")) == {"jacobi-cg"}
    assert "pool" in asked("relaxon solve --problem p")
    assert {"poisson", "boosting", "equilibrium"} <= set(asked("relaxon train "))


DRIVERS = {
    "bash": """
        eval "$(relaxon completion bash)"
        COMP_WORDS=(relaxon solve --sol) COMP_CWORD=2 COMP_LINE="relaxon solve --sol" COMP_POINT=19
        _python_argcomplete relaxon
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        autoload -U compinit; compinit -u -D
        compadd() { print -l -- "${completions[@]}" "$@" }
        _describe() { eval "print -l -- \\"\\${${@[-1]}[@]}\\" \\"\\${$2[@]}\\"" }
        eval "$(relaxon completion zsh)"
        words=(relaxon solve --sol) CURRENT=3 BUFFER="relaxon solve --sol" CURSOR=19
        service=relaxon _python_argcomplete relaxon
    """,
    "fish": """
        relaxon completion fish | source
        complete -C "relaxon solve --sol"
    """,
}


@pytest.mark.parametrize("shell", DRIVERS)
def test_a_real_shell_completes(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "relaxon"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m relaxon "$@"\n')
    script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "xterm"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    command = [shell, "-c", DRIVERS[shell]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    words = re.split(r"[\s:]+", done.stdout)  # zsh and fish show what each means
    assert "--solver" in words, (done.stdout, done.stderr)
    assert "--size" not in words
