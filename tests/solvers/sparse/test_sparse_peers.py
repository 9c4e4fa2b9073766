"""Other people's solvers behind the same front: judged by the true residual, refused by name, looked for when asked."""

import sys

import numpy as np
import pytest
from scipy import sparse

from relaxon.core.extras import MissingPackageError, find_missing
from relaxon.solvers import Result, gallery, prepare, solve
from relaxon.solvers.sparse import MatrixSystem
from relaxon.solvers.sparse.peers import PEERS, Hypre, PeerSolver

N = 900


def peer_named(name):
    missing = find_missing(PEERS[name].needs)
    if missing:
        pytest.skip(f"needs {', '.join(missing)}, of which docs/sparse.md says how it is installed")
    return PEERS[name]


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("family", ["laplacian-3d", "random-jumps-3d", "neumann-2d"])
def test_a_peer_s_answer_meets_the_true_residual_and_changes_nothing(name, family):
    peer_named(name)
    a = gallery.matrix(family, N)
    b = MatrixSystem.of(a).project(np.random.default_rng(0).standard_normal(a.shape[0]))
    before, right = a.copy(), b.copy()
    solution = solve(a, b, solver=name, rtol=1e-8)
    assert solution.result is Result.CONVERGED, solution.message
    assert np.linalg.norm(b - a @ solution.x) <= 1.01e-8 * np.linalg.norm(b)
    assert solution.info["peer_iterations"] >= 1
    assert solution.iterations <= 4
    for name_of in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(a, name_of), getattr(before, name_of))
    np.testing.assert_array_equal(b, right)


@pytest.mark.parametrize("name", PEERS)
def test_one_set_up_answers_several_right_hand_sides_and_two_matrices_do_not_mix(name):
    peer_named(name)
    a, c = gallery.matrix("laplacian-2d", N), gallery.matrix("triangles-2d", N)
    one, two = prepare(a, solver=name), prepare(c, solver=name)
    for seed in range(2):
        for matrix, prepared in ((a, one), (c, two)):
            b = np.random.default_rng(seed).standard_normal(matrix.shape[0])
            assert np.linalg.norm(b - matrix @ prepared.solve(b).x) <= 1.01e-6 * np.linalg.norm(b)


@pytest.mark.parametrize("name", ["cholmod", "pardiso"])
def test_a_factor_that_finds_the_matrix_indefinite_is_an_error_of_the_matrix(name):
    peer_named(name)
    a = gallery.matrix("laplacian-2d", N)
    shifted = sparse.csr_array(a - 0.3 * sparse.eye_array(a.shape[0]))
    with pytest.raises(ValueError, match="^operator must be positive definite; "):
        prepare(shifted, solver=name)


def test_hypre_takes_the_unknowns_of_a_node_together():
    peer_named("hypre")
    a = gallery.matrix("elasticity-3d", N)
    b = np.ones(a.shape[0])
    counts = [solve(a, b, solver=Hypre(dimension)).info["peer_iterations"] for dimension in (1, 3)]
    assert counts[1] < counts[0]


class Stubborn(PeerSolver):
    """Answers with what it was made for."""

    name, summary, needs, definite = "stubborn", "for tests", (), False

    def __init__(self, answer):
        self.answer = answer

    def set_up(self, matrix):
        return self.answer_once

    def answer_once(self, b, rtol):
        return self.answer(b, rtol), 7


def test_what_a_peer_claims_is_not_believed():
    a = gallery.matrix("laplacian-2d", 100)
    exact = np.linalg.inv(a.toarray())
    b = np.ones(a.shape[0])
    half = solve(a, b, solver=Stubborn(lambda r, rtol: 0.8 * (exact @ r)), rtol=1e-5, max_iterations=20)
    assert half.result is Result.CONVERGED
    assert half.iterations == 8  # 0.2 ** 8 is the first below 1e-5
    assert half.info["peer_iterations"] == 56
    wrong = solve(a, b, solver=Stubborn(lambda r, rtol: 0.1 * (exact @ r)))
    assert wrong.result is Result.STAGNATED
    broken = solve(a, b, solver=Stubborn(lambda r, rtol: np.full(len(r), np.nan)))
    assert broken.result is Result.STAGNATED
    assert "returned numbers that are not finite" in broken.message
    assert np.isfinite(broken.x).all()
    asked = []
    solve(a, b, solver=Stubborn(lambda r, rtol: asked.append(rtol) or exact @ r), rtol=1e-7)
    assert asked[0] == pytest.approx(0.9e-7)


def test_an_absent_peer_is_named_with_the_way_to_install_it(monkeypatch):
    a = gallery.matrix("laplacian-2d", 100)
    real = sys.modules.get("importlib.util").find_spec
    monkeypatch.setattr(
        "relaxon.core.extras.find_spec",
        lambda name: None if name in ("polysolve", "pypardiso", "apxchol", "pyamgcl") else real(name),
    )
    for name, text in (
        ("hypre", r"solver 'hypre' needs polysolve, .* pip install \"relaxon\[bench\]\""),
        ("pardiso", r"relaxon\[pardiso\]"),
        ("amgcl", "pip install pyamgcl"),
    ):
        with pytest.raises(MissingPackageError, match=text):
            prepare(a, solver=name)


def test_a_wrong_option_or_name_is_refused():
    with pytest.raises(ValueError, match="^dimension must be 1, 2 or 3, got 4"):
        Hypre(4)
    with pytest.raises(ValueError, match="^solver must be one of .* got 'hypr'"):
        prepare(gallery.matrix("laplacian-2d", 100), solver="hypr")


def test_they_are_listed_by_the_command_line_with_what_is_missing(capsys):
    from relaxon.cli import main

    assert main(["solvers", "--json"]) == 0
    import json

    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    for name, peer in PEERS.items():
        assert rows[name]["missing"] == list(find_missing(peer.needs))
