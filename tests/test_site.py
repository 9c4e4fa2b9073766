"""The site of docs/: it builds, needs no network, names every public name, and every command in it exists."""

import argparse
import importlib
import itertools
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from relaxon import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PUBLIC = (
    "relaxon.solvers",
    "relaxon.solvers.sparse",
    "relaxon.solvers.torch",
    "relaxon.implicit",
    "relaxon.solvers.dcdm",
    "relaxon.solvers.stress",
    "relaxon.neuromorphic.boosting",
    "relaxon.neuromorphic.convex",
    "relaxon.neuromorphic.energy",
    "relaxon.neuromorphic.equilibrium",
    "relaxon.client",
    "relaxon.aio",
    "relaxon.solvers.distributed",
)
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)
INDENTED = re.compile(r"(?:^    (?:relaxon|python) .*\n)+", re.M)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)", re.S)
OURS = re.compile(r"(?:\S*/)?relaxon (?![A-Z])|(?:\S*/)?python3? (?:bench|tools|docs/site)/")
ELSEWHERE = re.compile(r"(?:https?:)?//")


def find_commands(text: str) -> list[str]:
    """Return the commands of this project on a page: in shell blocks, in indented ones, and within sentences."""
    blocks = BLOCK.findall(text) + INDENTED.findall(re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans = [" ".join(span.split()) for span in SPAN.findall(re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))]
    found = [part.strip() for line in lines + spans for part in line.split("&&")]
    return [command for command in found if OURS.match(command) and "…" not in command and "..." not in command]


EVERY = sorted(
    {(str(page.relative_to(ROOT)), command) for page in PAGES for command in find_commands(page.read_text())}
)


class Parsed(Exception):
    """A command's arguments have been parsed; it goes no further."""


@pytest.mark.parametrize(("page", "command"), EVERY, ids=[f"{page}: {command[:60]}" for page, command in EVERY])
def test_a_command_exists_and_its_options_parse(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = list(itertools.takewhile(lambda word: word not in ("|", ">"), shlex.split(command, comments=True)))
    if words[0].endswith("relaxon") and not any(word.startswith("-") for word in words):
        words.append("--help")  # a page may name a command without its arguments
    genuine = argparse.ArgumentParser.parse_args

    def parse(self, args=None, namespace=None):
        try:
            genuine(self, args, namespace)
        except SystemExit as end:
            if end.code:
                raise
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.chdir(ROOT)
    with pytest.raises(Parsed):
        if words[0].endswith("relaxon"):
            cli.main(words[1:])
        else:
            script = ROOT / words[1]
            assert script.exists(), f"{page}: {script} is not there"
            monkeypatch.setattr(sys, "argv", words[1:])
            monkeypatch.syspath_prepend(str(script.parent))
            # Not as `__main__`: some start again as another process, with other numbers of threads, before they parse.
            runpy.run_path(str(script))["main"]()


def test_a_command_that_does_not_parse_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "```sh\nrelaxon serve --prot 1 \\\n  --workers 2\n```\nand `relaxon\nsolve`"
    assert find_commands(text) == ["relaxon serve --prot 1    --workers 2", "relaxon solve"]
    with pytest.raises(SystemExit):
        cli.main(shlex.split(find_commands(text)[0])[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_extras_that_a_page_installs_exist(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"relaxon\[([\w,-]+)\]", page.read_text()):
        assert set(named.split(",")) <= set(extras), named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_messages_that_a_page_names_exist(page: Path) -> None:
    from google.protobuf import descriptor_pool

    for module in (ROOT / "proto").glob("*_pb2.py"):
        importlib.import_module(f"relaxon.proto.{module.stem}")
    pool = descriptor_pool.Default()
    for name in set(re.findall(r"relaxon\.v1\.[A-Z]\w+", page.read_text())):
        try:
            pool.FindMessageTypeByName(name)
        except KeyError:
            pool.FindServiceByName(name)


@pytest.mark.parametrize("package", PUBLIC)
def test_the_reference_has_every_public_name(package: str) -> None:
    documented = {
        name for page in (DOCS / "reference").glob("*.md") for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)
    }
    # An object may have two public names, of which one is documented.
    objects = [id(_resolve(name)) for name in documented]
    for name in importlib.import_module(package).__all__:
        assert f"{package}.{name}" in documented or id(_resolve(f"{package}.{name}")) in objects, f"{package}.{name}"


def _resolve(name: str) -> object:
    home, _, last = name.rpartition(".")
    try:
        return getattr(importlib.import_module(home), last)
    except AttributeError:
        return importlib.import_module(name)


def test_the_protocol_page_is_what_the_proto_files_say() -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools (extra: docs) reads the .proto files")
    run = subprocess.run(
        [sys.executable, "tools/protocol_reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr


def test_a_docstring_of_the_project_becomes_sections_with_descriptions() -> None:
    pytest.importorskip("griffe", reason="mkdocstrings (extra: docs) brings griffe")
    convert = runpy.run_path(str(DOCS / "site" / "docstrings.py"))["convert_to_google_style"]
    text = (
        "Sum.\n\nParameters\n----------\na, b : numbers,\n    both.\n\nSource: Gauss.\n\nRaises\n------\n"
        "TypeError, ValueError : for what is none. Odd (a ValueError): for 3.\n\n>>> 1\n1"
    )
    assert convert(text).split("\n") == [
        *("Sum.", "", "Parameters:", "    a: numbers,", "        both.", "    b: numbers,", "        both.", ""),
        *("Source: Gauss.", "", "Raises:"),
        *(
            "    TypeError: for what is none.",
            "    ValueError: for what is none.",
            "    Odd: (a ValueError) for 3.",
            "",
        ),
        *("Examples:", "    >>> 1", "    1"),
    ]


class _Sources(HTMLParser):
    """Collects the addresses that a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.found.append(given["src"])
        if tag == "link" and given.get("rel") != "canonical":
            self.found.append(given.get("href") or "")


def test_the_site_builds_without_a_warning_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip("MkDocs is not installed (extra: docs)")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(PAGES) - 2
    for page in pages:
        parser = _Sources()
        parser.feed(page.read_text())
        assert parser.found, page
        assert not [source for source in parser.found if ELSEWHERE.match(source)], page
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import\s+)['\"]?(?:https?:)?//", sheet.read_text()), sheet
    # Names in the solvers' page are objects with their words, not bare headings.
    assert "recomputed in float64" in (tmp_path / "reference" / "solvers.html").read_text()
    assert "--grace-seconds" in (tmp_path / "cli.html").read_text()
