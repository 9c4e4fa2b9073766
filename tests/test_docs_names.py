"""Every dotted name of the package that the docs and the examples give can be imported."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"(?<![\w./-])relaxon(?:\.[A-Za-z_]\w*)+(?![\w/-])")
PAGES = sorted(
    [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    + [
        path
        for folder in ("docs", "examples")
        for ending in ("md", "py")
        for path in (ROOT / folder).rglob(f"*.{ending}")
    ]
)
PROTOCOL = "relaxon.v1"
"""The package of the messages and services; its names are checked against the descriptors."""
FILES = re.compile(r"\.(css|hpp|html|json|js|md|onnx|png|proto|sock|svg|toml|yaml|yml)$")


TRACE_ATTRIBUTES = {"relaxon.request_id"}
"""Names of attributes in the server's traces, which are not Python objects."""


def find_names(path: Path) -> list[str]:
    found = {match.group() for match in NAME.finditer(path.read_text(encoding="utf-8"))}
    return sorted(name for name in found if not FILES.search(name))


def resolve(name: str) -> object:
    """Return the object of that name; AttributeError or ImportError if there is none."""
    parts = name.split(".")
    found = import_module(parts[0])
    for number, part in enumerate(parts[1:], start=2):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = import_module(".".join(parts[:number]))
    return found


def is_in_protocol(name: str) -> bool:
    """Return whether a name of the protocol is a message, an enumeration, a service, or a method of one."""
    from google.protobuf import descriptor_pool

    for module in sorted((ROOT / "proto").glob("*_pb2.py")):
        import_module(f"relaxon.proto.{module.stem}")
    pool = descriptor_pool.Default()
    for find in (pool.FindMessageTypeByName, pool.FindEnumTypeByName, pool.FindServiceByName, pool.FindMethodByName):
        try:
            find(name)
        except KeyError:
            continue
        return True
    return name == PROTOCOL


def explain_wrong(name: str) -> str:
    """Return what is wrong with a name; empty if nothing is."""
    if name.startswith(PROTOCOL):
        return "" if is_in_protocol(name) else f"{name} is not in the protocol"
    if name in TRACE_ATTRIBUTES:
        sources = (path.read_text(encoding="utf-8") for path in (ROOT / "server").rglob("*.py"))
        return "" if any(f'"{name}"' in text for text in sources) else f"the server does not say {name}"
    try:
        resolve(name)
    except (AttributeError, ModuleNotFoundError) as error:
        return f"{name}: {error}"
    return ""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_names_on_a_page_are_there(path: Path) -> None:
    assert not list(filter(None, map(explain_wrong, find_names(path))))


def test_the_check_finds_names_and_knows_wrong_ones() -> None:
    assert sum(len(find_names(path)) for path in PAGES) > 100
    assert explain_wrong("relaxon.solvers.PreparedSolver") == ""
    assert "no module" in explain_wrong("relaxon.solvers.NoSuchName").lower()
    assert "not in the protocol" in explain_wrong("relaxon.v1.NoSuchService")


def test_the_quick_list_names_tests_that_exist() -> None:
    for line in (ROOT / "tests" / "quick.txt").read_text().splitlines():
        path, _, name = line.partition("::")
        assert f"def {name.partition('[')[0]}" in (ROOT / path).read_text(encoding="utf-8"), line


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    import relaxon

    versions = re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert versions[0] == relaxon.__version__
    assert versions == sorted(versions, reverse=True)
