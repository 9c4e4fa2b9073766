"""`relaxon token`: the token is shown once, the file keeps its hash."""

import json

import pytest

from relaxon.cli import main
from relaxon.server.gate import tokens


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.delenv("RELAXON_TOKEN_FILE", raising=False)
    return tmp_path / "folder" / "tokens"


def test_a_token_is_printed_once_and_taken(file, capsys):
    assert main(["token", "add", "ada", "--role", "solve", "--file", str(file)]) == 0
    token = capsys.readouterr().out.strip()
    assert token not in file.read_text()
    assert tokens.TokenFile(file).caller(token).name == "ada"
    assert main(["token", "list", "--json", "--file", str(file)]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["role"], row["expires"]) == ("ada", "solve", None)
    assert main(["token", "remove", "ada", "--file", str(file)]) == 0
    assert main(["token", "remove", "ada", "--file", str(file)]) == 1
    assert tokens.read(file) == ()


def test_the_environment_names_the_file(file, capsys, monkeypatch):
    monkeypatch.setenv("RELAXON_TOKEN_FILE", str(file))
    assert main(["token", "add", "ada", "--role", "read", "--days", "2"]) == 0
    assert tokens.read(file)[0].expires is not None


@pytest.mark.parametrize(
    "options",
    [
        ["add", "../x", "--role", "read"],
        ["add", "a b", "--role", "read"],
        ["add", "a", "--role", "read", "--days", "0"],
    ],
)
def test_a_mistake_makes_no_token(file, capsys, options):
    assert main(["token", *options, "--file", str(file)]) == 2
    assert capsys.readouterr().out == ""
    assert not file.exists()


def test_without_a_file_nothing_is_done(file, capsys):
    assert main(["token", "list"]) == 2
    assert main(["token", "list", "--file", str(file)]) == 1


def test_a_server_with_an_empty_token_file_does_not_start(file):
    file.parent.mkdir()
    file.write_text("# none\n")
    with pytest.raises(ValueError, match="must hold a token"):
        tokens.TokenFile(file)
