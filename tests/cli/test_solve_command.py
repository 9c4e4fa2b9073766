"""`relaxon solve` as a user types it: what it writes, and what it refuses."""

import argparse
import json

import numpy as np
import pytest

from relaxon.cli import grid_options, main
from relaxon.cli.grid_contest import GridServer
from relaxon.client import FailedPrecondition
from relaxon.core.pictures import choose_slice

SMALL = ["solve", "--problem", "pool", "--size", "12"]


def test_a_solve_prints_the_table_and_writes_the_picture_and_the_figures(tmp_path, capsys):
    picture, figures = tmp_path / "out.png", tmp_path / "out.json"
    extra = ["--solver", "cg", "--compare", "mg-cg,jacobi-cg", "--plot", str(picture), "--json", str(figures)]
    assert main([*SMALL, *extra]) == 0
    output = capsys.readouterr().out
    assert "cg converged: true relative residual" in output
    assert picture.read_bytes().startswith(b"\x89PNG")
    content = json.loads(figures.read_text())
    assert [run["solver"] for run in content["runs"]] == ["cg", "mg-cg", "jacobi-cg"]
    for run in content["runs"]:
        assert run["converged"]
        assert run["relative_residual"] <= 1e-6
        assert len(run["residuals"]) == run["iterations"] + 1


def test_a_result_is_shown_before_the_next_solver_is_begun(monkeypatch, capsys):
    solve, shown = GridServer.solve, {}

    def watched(venue, system, solver, *rest):
        shown[solver] = capsys.readouterr().out
        return solve(venue, system, solver, *rest)

    monkeypatch.setattr(GridServer, "solve", watched)
    assert main([*SMALL, "--solver", "cg", "--compare", "jacobi-cg", "scipy-cg"]) == 0
    assert shown["cg"] == ""
    for solver, before in (("jacobi-cg", "cg"), ("scipy-cg", "jacobi-cg")):
        assert shown[solver].startswith(f"{before} converged: true relative residual")
        assert "iterations, set-up" in shown[solver]
        assert len(shown[solver].splitlines()) == 1
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table if line.rstrip().endswith(" yes")] == ["cg", "jacobi-cg", "scipy-cg"]


def test_a_comparison_that_is_refused_says_so_at_once(monkeypatch, capsys):
    solve, shown = GridServer.solve, {}

    def failing(venue, system, solver, *rest):
        shown[solver] = capsys.readouterr().out
        if solver == "jacobi-cg":
            raise FailedPrecondition("there is no such thing [here]")
        return solve(venue, system, solver, *rest)

    monkeypatch.setattr(GridServer, "solve", failing)
    assert main([*SMALL, "--solver", "cg", "--compare", "jacobi-cg", "scipy-cg"]) == 0
    assert shown["scipy-cg"] == "jacobi-cg was not run: there is no such thing [here]\n"


def test_the_exit_status_is_the_named_solver_s(capsys):
    limited = [*SMALL, "--max-iterations", "2"]
    assert main([*limited, "--solver", "cg", "--compare", "scipy-direct"]) == 1
    assert main([*limited, "--solver", "scipy-direct", "--compare", "cg"]) == 0
    assert "cg did not converge" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--solver", "mgcg"], "got 'mgcg'; did you mean 'mg-cg'?"),
        (["--solver", "cg", "--compare", "pyamq"], "got 'pyamq'; did you mean 'pyamg'?"),
        (["--solver", "cg", "--compare", "mg-cg,pyamg-as"], "got 'pyamg-as'; did you mean 'pyamg-sa'?"),
        (["--solver", "xyz"], "got 'xyz'\n"),
        (["--solver", ","], "--solver must name a solver"),
        (["--rtol", "0"], "--rtol must be a number greater than 0, got 0.0"),
        (["--max-iterations", "0"], "--max-iterations must be at least 1"),
        (["--size", "1"], "--size must be at least 2"),
        (["--plot", "out.gif"], "--plot must end in .png"),
        (["--target", "http://localhost:1"], "got 'http://localhost:1'; write 'localhost:1'"),
    ],
)
def test_a_mistake_is_refused_with_status_2_and_a_hint(arguments, words, capsys):
    assert main([*SMALL, *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_slice_that_is_drawn_shows_the_most_kinds_of_cells():
    cells = np.zeros((6, 6, 6), np.uint8)
    cells[:, :, 5] = 2  # air above
    cells[2:4, 3, 0] = 1  # a solid that one middle slice cuts
    assert choose_slice(cells) in ((0, 3), (1, 3))
    assert choose_slice(cells[:, :, 0]) == (1, 3)


@pytest.mark.parametrize("columns", [0, 1, 3])
def test_a_column_of_your_own_is_taken_and_several_are_refused(tmp_path, capsys, columns):
    cells, out = np.zeros((9, 10), np.uint8), tmp_path / "out.json"
    cells[:, 0] = 2
    b = np.random.default_rng(0).normal(size=(81, columns) if columns else 81)
    np.save(tmp_path / "cells.npy", cells)
    np.save(tmp_path / "b.npy", b)
    files = ["--cells", str(tmp_path / "cells.npy"), "--rhs", str(tmp_path / "b.npy")]
    status = main(["solve", *files, "--solver", "cg", "--json", str(out)])
    if columns > 1:
        assert status == 2
        assert "rhs must be one right-hand side, got 3 columns: solve one after another" in capsys.readouterr().err
        return
    assert status == 0
    assert json.loads(out.read_text())["runs"][0]["converged"]


@pytest.fixture
def own_files(tmp_path):
    """Files of a grid of the user's own, by name."""
    arrays = {"cells": np.zeros((24, 16), np.uint8), "rhs": np.ones((24, 16)), "sigma": np.full((24, 16), 0.1)}
    arrays |= {"volume": np.full((24, 16), 0.5), "widths": np.geomspace(1, 3, 24)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "faces.npz", x=np.ones((25, 16)), y=np.ones((24, 17)))
    return {path.stem: str(path) for path in tmp_path.iterdir()}


def test_widths_sides_and_coefficients_of_your_own_are_options(own_files, tmp_path):
    out = tmp_path / "out.json"
    files = ["--cells", own_files["cells"], "--rhs", own_files["rhs"]]
    kinds = ["--spacing", f"{own_files['widths']},0.5", "--boundary", "dirichlet-node/robin:2.5,neumann"]
    kinds += ["--reaction", own_files["sigma"], "--coefficient", own_files["faces"], "--volume", own_files["volume"]]
    assert main(["solve", *files, *kinds, "--solver", "mg-cg", "--json", str(out)]) == 0
    content = json.loads(out.read_text())
    assert content["problem"]["boundary"] == [["dirichlet-node", "robin"], ["neumann", "neumann"]]
    assert content["problem"]["spacing"][0] == np.geomspace(1, 3, 24).tolist()
    assert content["runs"][0]["converged"]


def test_a_stretch_keeps_the_mean_width():
    args = argparse.Namespace(spacing="0.5", stretch="4,1", boundary=None, coefficient=None, reaction="2", volume=None)
    found = grid_options.read_options(args, (6, 5))
    assert found["spacing"][0].mean() == pytest.approx(0.5)
    assert found["spacing"][0][-1] == pytest.approx(4 * found["spacing"][0][0])
    assert found["spacing"][1] == 0.5
    assert found["reaction"] == 2.0


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--spacing", "1,2,3", "one entry or 2"),
        ("--spacing", "missing.npy", "cannot be read as an array"),
        ("--stretch", "x", "must be numbers, got 'x'"),
        ("--stretch", "0", "greater than 0"),
        ("--boundary", "robin", "robin:H with a number, got 'robin'"),
        ("--boundary", "robin:-1", "h must be at least 0"),
        ("--boundary", "a", "got 'a'"),
        ("--boundary", "neumann/dirichlet/neumann,neumann", "one or two sides"),
        ("--coefficient", "missing.npz", "must hold the arrays x, y"),
        ("--reaction", "-1", "reaction must be"),
    ],
)
def test_kinds_that_cannot_be_read_are_refused_by_the_option(own_files, capsys, option, value, words):
    assert main(["solve", "--cells", own_files["cells"], "--rhs", own_files["rhs"], f"{option}={value}"]) == 2
    error = capsys.readouterr().err
    assert option.removeprefix("--") in error
    assert words in error
