"""The checkout itself: links, what an import loads, what the README tells a reader to run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("solvers", "neuromorphic", "proto", "server")
HEAVY = ("torch", "numba", "scipy", "pyamg", "matplotlib")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_linked_into_the_package(room: str) -> None:
    link = ROOT / "src" / "relaxon" / room
    assert link.is_symlink(), (
        f"{link.relative_to(ROOT)} is not a symbolic link: the checkout was made without them. On Windows enable "
        "developer mode and clone with `git clone -c core.symlinks=true`."
    )
    assert link.resolve() == ROOT / room


@pytest.mark.parametrize("module", ["relaxon", "relaxon.solvers", "relaxon.client", "relaxon.cli"])
def test_an_import_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src")
    assert run.stdout.strip() == "[]"


def test_using_a_grid_without_solving_loads_nothing_heavy() -> None:
    code = (
        "import sys, numpy as np; from relaxon.solvers import PoissonGrid, list_solvers, Solution\n"
        "PoissonGrid(np.zeros((3, 4), np.uint8)).pack(np.ones((3, 4))); list_solvers()\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src")
    assert run.stdout.strip() == "[]"


def readme_block(heading: str) -> list[str]:
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"^## {heading}\n.*?^```sh\n(.*?)^```", text, re.M | re.S)
    assert found, f"README.md has no shell block under '## {heading}'"
    return found.group(1).splitlines()


def test_the_readme_needs_two_commands_to_run_and_two_to_test() -> None:
    assert len(readme_block("Set up and run")) == 2
    assert len(readme_block("Test")) == 2


def test_what_the_readme_has_typed_names_no_host_and_installs_no_torch() -> None:
    typed = readme_block("Set up and run") + readme_block("Test")
    for option in ("://", "--index-url", "--extra-index-url", "--find-links", "--trusted-host", " -r ", ".txt"):
        assert not [line for line in typed if option in line], option
    assert "torch" not in typed[0]
    assert '-e ".[server,plot]"' in typed[0]
    assert "cpu.txt" not in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", ["pyproject.toml", "deploy/Containerfile", ".ci/run"])
def test_nothing_is_installed_from_an_index_of_its_own(path: str) -> None:
    assert not re.search(r"--(extra-)?index-url|--find-links|whl/cpu|cpu\.txt", (ROOT / path).read_text())


def test_every_public_name_resolves() -> None:
    import relaxon.solvers

    for name in relaxon.solvers.__all__:
        assert getattr(relaxon.solvers, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = relaxon.solvers.no_such_name


def test_the_readme_links_to_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).exists(), target
