"""The programs in other languages solve their system on a server of this checkout, and notice where they do not."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.solvers.interface.engine import Prepared

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SECONDS = 240
CPP_TOOLS = ("cmake", "c++", "pkg-config", "protoc", "grpc_cpp_plugin")


def run(*command: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RELAXON_PROTO_ROOT": str(ROOT / "src")}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
    )


def need(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def javascript(tmp_path_factory) -> list[str]:
    """The command that runs the program, with its packages installed in a folder of its own."""
    need("node", "npm")
    folder = tmp_path_factory.mktemp("javascript")
    for name in ("package.json", "solve.js"):
        shutil.copy(EXAMPLES / "javascript" / name, folder)
    installed = run("npm", "install", "--no-audit", "--no-fund", "--fetch-retries=1", folder=folder)
    if installed.returncode:
        pytest.skip(f"npm cannot install the example's packages here: {installed.stderr.strip().splitlines()[-1]}")
    return ["node", str(folder / "solve.js")]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder with the C++ programs, built; only tools that are missing are a reason not to."""
    need(*CPP_TOOLS)
    for package in ("grpc++", "protobuf", "zlib"):
        if run("pkg-config", "--exists", package).returncode:
            pytest.skip(f"not installed: the development files of {package}")
    folder = tmp_path_factory.mktemp("cpp")
    # Unoptimised: what the compiler takes is most of the time, and the programs only send and receive.
    unoptimised = ("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O0")
    for command in (("-S", EXAMPLES / "cpp", "-B", folder, *unoptimised), ("--build", folder)):
        done = run("cmake", *command)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def cpp(built) -> list[str]:
    return [str(built / "solve")]


@pytest.fixture(params=["javascript", "cpp"])
def program(request) -> list[str]:
    command: list[str] = request.getfixturevalue(request.param)
    return command


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0)) as started:
        yield started


def test_the_program_solves_and_its_own_residual_meets_the_tolerance(program, server):
    done = run(*program, server.target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "grid with 240360 unknowns" in done.stdout
    assert re.search(r"  iteration \d+: ", done.stdout), "no progress was shown"
    iterations, residuals = re.findall(r"RESULT_CONVERGED after (\d+) iterations, (\d+) residuals", done.stdout)[0]
    assert int(residuals) == int(iterations) + 1
    residual = float(re.findall(r"computed here: (\S+)", done.stdout)[0])
    assert 0 < residual <= 1e-8
    assert len(server.sessions) == 0, "the grid was left on the server"


def test_a_simulation_in_cpp_keeps_its_water_together(built, server):
    done = run(built / "simulate", server.target, "6")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.findall(r"step (\d+): (\d+) iterations, divergence left (\S+) of", done.stdout)
    assert [int(number) for number, _, _ in steps] == list(range(6))
    assert all(0 < float(left) < 1e-4 for _, _, left in steps)
    assert len(server.sessions) == 0, "the grid was left on the server"


def test_a_refusal_while_the_program_sends_is_told_by_the_server_s_words(program):
    with EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0, max_cells=1000)) as small:
        done = run(*program, small.target)
    assert done.returncode == 1
    assert "cells must number at most 1000 here" in done.stderr


def test_a_solution_that_is_wrong_fails_the_program(program, server, monkeypatch):
    from relaxon.solvers.driver.prepared import PreparedSolver
    from relaxon.solvers.interface.verdict import Figures

    monkeypatch.setattr(PreparedSolver, "_figures", lambda *_: Figures(0.0, 0.0))  # every verdict becomes CONVERGED
    monkeypatch.setattr("relaxon.solvers.multigrid.MultigridCG.prepare", lambda self, operator: _Nothing())
    done = run(*program, server.target)
    assert "RESULT_CONVERGED" in done.stdout
    assert done.returncode == 1


class _Nothing(Prepared):
    """Leaves x as it is."""

    default_max_iterations = 5
    info: dict[str, float] = {}  # noqa: RUF012

    def run(self, b, x, monitor, max_iterations):
        from relaxon.core.solution import Result

        return monitor.record(1.0) or Result.MAX_ITERATIONS


def test_a_scipy_program_takes_the_preconditioner():
    done = run(sys.executable, EXAMPLES / "python/scipy_cg.py", "24")
    assert done.returncode == 0, done.stdout + done.stderr
    without, taken = (int(count) for count in re.findall(r": (\d+) iterations", done.stdout))
    assert taken < without / 3
    assert all(float(r) <= 1.001e-8 for r in re.findall(r"relative residual (\S+)", done.stdout))


def test_a_flow_solver_keeps_its_flow_free_of_divergence(tmp_path):
    picture = tmp_path / "channel.png"
    done = run(sys.executable, EXAMPLES / "python/finite_volume.py", "100", picture)
    assert done.returncode == 0, done.stdout + done.stderr
    assert picture.stat().st_size > 10_000
    assert all(float(left) < 1e-3 for left in re.findall(r"divergence (\S+)", done.stdout))


def test_smoke_goes_where_its_gradient_leads(tmp_path):
    picture = tmp_path / "smoke.png"
    done = run(sys.executable, EXAMPLES / "python/smoke_control.py", "15", picture)
    assert done.returncode == 0, done.stdout + done.stderr
    assert picture.stat().st_size > 5_000


@pytest.mark.parametrize(
    ("program", "size", "expected"),
    [
        (
            "viscous_plume",
            "10",
            r"with viscosity: 12 steps, .*viscous iterations of the last step \[[1-9], [1-9], [1-9]\]",
        ),
        ("static_drop", "48", r"48 cells: CONVERGED in \d+ iterations, pressure jump (3\.99|4\.00)"),
        ("cylinder", "32", r"32 cells across, 8 across the cylinder: drag 21\.\d+, series 21\.9643, difference 0\."),
        ("heat_sink", "16", r"Biot 0\.01: efficiency 0\.693\d+, series 0\.69311 \(difference \S+, order (1\.[89]|2\.)"),
    ],
)
def test_a_grid_as_simulation_codes_have_it_gives_the_known_answer(
    program, size, expected, tmp_path, capsys, monkeypatch
):
    path = EXAMPLES / "grids" / f"{program}.py"
    spec = importlib.util.spec_from_file_location(program, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if program == "viscous_plume":
        monkeypatch.setattr(module, "END", 0.48)
    picture = tmp_path / "out.png"
    monkeypatch.setattr(sys, "argv", [str(path), size, str(picture)])
    status = module.main()
    printed = capsys.readouterr().out
    assert re.search(expected, printed), printed
    assert status == 0
    assert picture.stat().st_size > 5_000
