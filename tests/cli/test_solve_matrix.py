"""`relaxon solve --matrix FILE` as a user types it: what it says of the matrix, what it solves, and what it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import io, sparse

from relaxon.cli import main, matrix_contest
from relaxon.cli.matrix_pattern import count_entries
from relaxon.core.extras import find_missing
from relaxon.server.app import EmbeddedServer
from relaxon.solvers import gallery, read_matrix, read_vector
from relaxon.solvers.sparse import peers
from relaxon.solvers.sparse.structure import examine_structure
from relaxon.solvers.stress.matrix_residual import matrix_residual

DATA = Path(__file__).parents[1] / "data"
PLATE = ["solve", "--matrix", str(DATA / "heat-plate.mtx.gz"), "--solver", "ic-cg"]


def test_the_issue_s_command_prints_structure_and_table_and_draws_the_picture(tmp_path, capsys):
    picture, figures = tmp_path / "out.png", tmp_path / "out.json"
    extra = ["--compare", "pyamg", "hypre", "--plot", str(picture), "--json", str(figures)]
    assert main([*PLATE, *extra]) == 0
    output = capsys.readouterr().out
    assert "heat-plate.mtx.gz, 580 unknowns, 3,906 entries (6.7 a row)" in output
    assert "Matrix Market coordinate real symmetric" in output
    assert "A·1: the solution is all ones" in output
    assert "ic-cg converged: true relative residual" in output
    assert picture.read_bytes().startswith(b"\x89PNG")
    content = json.loads(figures.read_text())
    runs = {run["solver"]: run for run in content["runs"]}
    assert list(runs) == ["ic-cg", "pyamg-sa", "pyamg-rs", "hypre"]
    assert runs["ic-cg"]["converged"]
    assert runs["hypre"]["converged"] is not bool(find_missing(peers.PEERS["hypre"].needs))
    assert runs["pyamg-rs"]["relative_residual"] <= 1e-6
    assert content["matrix"]["kind"] == "spd"
    assert content["matrix"]["parts"] == 1


def test_a_peer_that_is_not_there_is_named_with_what_brings_it(monkeypatch, capsys):
    monkeypatch.setitem(peers.PEERS, "no-such-peer", peers.ApproximateCholesky())
    monkeypatch.setattr(matrix_contest, "find_missing", lambda names: tuple(set(names) & {"apxchol"}))
    assert main([*PLATE, "--compare", "no-such-peer"]) == 0
    assert 'no-such-peer was not run: it is not installed: pip install "relaxon[bench]"' in capsys.readouterr().out
    assert main([*PLATE[:3], "--solver", "no-such-peer"]) == 1


def test_the_solution_is_written_and_solves_the_system_of_the_files(tmp_path):
    for name in ("x.npy", "x.mtx"):
        rhs = [
            "--rhs",
            str(DATA / "heat-plate-rhs.mtx.gz"),
            "--rtol",
            "1e-10",
            "--out",
            str(tmp_path / name),
            "--quiet",
        ]
        assert main([*PLATE, *rhs]) == 0
    a, b = read_matrix(DATA / "heat-plate.mtx.gz"), read_vector(DATA / "heat-plate-rhs.mtx.gz")
    x = np.load(tmp_path / "x.npy")
    assert np.linalg.norm(b - a @ x) <= 1e-10 * np.linalg.norm(b)
    assert np.array_equal(io.mmread(tmp_path / "x.mtx")[:, 0], x)


def test_every_kind_of_file_beside_this_one_is_solved(capsys):
    for name, words in (
        ("network.npz", "constants on 2 of the parts"),
        ("half.petsc", "completed by its transpose"),
        ("beam.rsa.gz", "Harwell-Boeing RSA"),
    ):
        rhs = ["--rhs", str(DATA / name)] if name == "beam.rsa.gz" else []
        assert main(["solve", "--matrix", str(DATA / name), "--solver", "ic-cg", *rhs]) == 0
        assert words in capsys.readouterr().out
    beam = matrix_residual(read_matrix(DATA / "beam.rsa.gz"), read_vector(DATA / "beam.rsa.gz"), np.ones(544))
    assert beam.relative < 1e-3  # its right-hand side was made so, and has four places


def test_an_openfoam_matrix_is_refused_with_its_sign_and_solved_without(tmp_path, capsys):
    folder = ["solve", "--matrix", str(DATA / "cavity"), "--rhs", str(DATA / "cavity" / "source"), "--solver", "ic-cg"]
    assert main(folder) == 1
    printed = capsys.readouterr()
    assert "--negate solves −A x = −b" in printed.out
    assert "the diagonal is -4.0 in row 0" in printed.err
    assert main([*folder, "--negate", "--quiet", "--out", str(tmp_path / "x.npy")]) == 0
    a, b = read_matrix(DATA / "cavity"), read_vector(DATA / "cavity" / "source")
    assert np.linalg.norm(b - a @ np.load(tmp_path / "x.npy")) <= 1e-6 * np.linalg.norm(b)


def test_a_server_solves_the_matrix_and_its_answer_is_judged_here(tmp_path, capsys):
    out = tmp_path / "out.json"
    with EmbeddedServer() as server:
        there = [*PLATE, "--target", server.target, "--compare", "jacobi-cg", "--json", str(out)]
        assert main(there) == 0
        assert main([*PLATE, "--target", server.target, "--compare", "hypre"]) == 0
        assert "hypre was not run: servers have no solvers of other libraries" in capsys.readouterr().out
        cavity = ["solve", "--matrix", str(DATA / "cavity"), "--target", server.target]
        assert main([*cavity, "--solver", "ic-cg"]) == 1
        assert "the diagonal is -4.0 in row 0" in capsys.readouterr().err
        assert main(cavity) == 0  # as the indefinite matrix that it might be
    runs = json.loads(out.read_text())["runs"]
    assert [run["solver"] for run in runs] == ["ic-cg", "jacobi-cg"]
    assert all(run["converged"] and run["relative_residual"] <= 1e-6 for run in runs)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--solver", "ic-gc"], "got 'ic-gc'; did you mean 'ic-cg'?"),
        (["--compare", "hypr"], "did you mean 'hypre'?"),
        (["--problem", "pool"], "--problem cannot be used with --matrix"),
        (["--rhs-column", "1"], "--rhs-column needs --rhs"),
        (["--seed", "1", "--rhs", "x.npy"], "--seed must be at least 0 and cannot be used with --rhs"),
        (["--out", "x.txt"], "--out must end in .npy or .mtx"),
        (["--max-bytes", "10"], "decompress to more than max_bytes = 10"),
        (["--rhs", str(DATA / "cavity" / "source")], "must have the matrix's 580 rows, got 144"),
        (["--rtol", "0"], "--rtol must be a number greater than 0"),
    ],
)
def test_a_mistake_is_refused_with_status_2(arguments, words, capsys):
    assert main([*PLATE, *arguments]) == 2
    assert words in capsys.readouterr().err


def test_options_of_matrices_need_one(capsys):
    assert main(["solve", "--problem", "pool", "--size", "8", "--out", "x.npy"]) == 2
    assert "--out needs --matrix" in capsys.readouterr().err
    assert main(["solve", "--matrix", "no-such.mtx"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_half_a_matrix_is_refused_until_the_option_says_what_it_is(tmp_path, capsys):
    path = tmp_path / "half.mtx"
    io.mmwrite(path, sparse.triu(gallery.matrix("laplacian-2d", 64)), symmetry="general")
    assert main(["solve", "--matrix", str(path), "--solver", "cg"]) == 2
    assert "--symmetric-half yes" in capsys.readouterr().err
    assert main(["solve", "--matrix", str(path), "--solver", "cg", "--symmetric-half", "yes"]) == 0


def test_the_solution_is_random_where_all_ones_are_in_the_null_space_or_a_seed_is_given(capsys):
    network = ["solve", "--matrix", str(DATA / "network.npz"), "--solver", "ic-cg"]
    assert main(network) == 0
    assert "seed 0 (A·1 is 0)" in capsys.readouterr().out
    assert main([*PLATE, "--seed", "7"]) == 0
    assert re.search(r"right-hand side +A·x of normally distributed x, seed 7\n", capsys.readouterr().out)


# --- what is said of a matrix --------------------------------------------------------------------------------------


def test_structure_is_what_a_dense_look_finds():
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((60, 60)) < 0.1, rng.standard_normal((60, 60)), 0.0) + np.diag(rng.standard_normal(60))
    dense[7] = dense[:, 7] = 0.0
    found = examine_structure(sparse.csr_array(dense))
    off = dense - np.diag(np.diag(dense))
    assert found.entries == np.count_nonzero(dense)
    assert (found.negative_off, found.positive_off) == (np.sum(off < 0), np.sum(off > 0))
    assert (found.positive_diagonal, found.negative_diagonal) == (
        np.sum(np.diag(dense) > 0),
        np.sum(np.diag(dense) < 0),
    )
    assert found.empty_rows == 1
    assert found.dominant_rows == np.sum((np.abs(np.diag(dense)) >= np.abs(off).sum(1)) & dense.any(1))
    assert found.bandwidth == max(abs(i - j) for i, j in zip(*np.nonzero(dense), strict=True))
    assert found.kind == "nonsymmetric"
    assert not found.pattern_symmetric


@pytest.mark.parametrize(
    ("matrix", "kind"),
    [
        ([[2, -1], [-1, 2]], "spd"),
        ([[-2, 1], [1, -2]], "negative-definite"),
        ([[2, 1], [1, 0]], "symmetric-indefinite"),
        ([[2, 1], [0, 2]], "nonsymmetric"),
        ([[2, 1j], [-1j, 2]], "hermitian"),
        ([[2, 1j], [1j, 2]], "complex-symmetric"),
        ([[2 + 0j, 1j], [3, 2]], "nonsymmetric"),
        ([[2.0, -1.0], [-1.0 - 1e-13, 2.0]], "spd"),
        ([[2.0, -1.0], [-1.0 - 1e-6, 2.0]], "nonsymmetric"),
    ],
)
def test_the_kind_follows_from_symmetry_and_diagonal(matrix, kind):
    assert examine_structure(sparse.csr_array(np.array(matrix))).kind == kind


def test_the_picture_counts_every_entry_once_in_the_order_given():
    matrix = gallery.matrix("laplacian-2d", 400)
    order = np.random.default_rng(0).permutation(400)
    counts = count_entries(matrix, 7, order)
    assert counts.sum() == matrix.nnz
    assert counts.shape == (58, 58)
    permuted = matrix[order][:, order].toarray() != 0
    starts = np.arange(0, 400, 7)
    blocks = np.add.reduceat(np.add.reduceat(permuted, starts, axis=0, dtype=int), starts, axis=1)
    assert np.array_equal(counts, blocks)
