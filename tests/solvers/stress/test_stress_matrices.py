"""The random sparse systems are legal and of every kind, and their judge agrees with exact arithmetic."""

import re
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from relaxon.solvers import Result, gallery, norms
from relaxon.solvers.interface.verdict import Figures
from relaxon.solvers.sparse.driver import PreparedMatrix
from relaxon.solvers.stress import (
    MatrixTrialSettings,
    make_matrix_case,
    matrix_cases,
    matrix_residual,
    matrix_trial,
    measure_regret,
    run_matrix_trial,
)

CASES = [make_matrix_case(3, number, 3000) for number in range(150)]


def test_the_cases_are_of_every_kind():
    text = "\n".join(case.summary for case in CASES)
    for word in (*gallery.matrix_names(), "couplings times", "closed", "held by", "units of rows", "signs turned"):
        assert word in text, word
    for word in (
        "of a diagonal alone",
        "numbered at random",
        "units of 1e",
        "float32",
        "duplicates",
        "csc",
        "do not touch",
    ):
        assert word in text, word
    exponents = [int(found) for found in re.findall(r"units of 1e([+-]\d+)", text)]
    assert min(exponents) < -100
    assert max(exponents) > 100
    assert any(case.singular_parts > 2 for case in CASES)
    assert any(
        (
            case.judged.data[
                case.judged.indices != np.repeat(np.arange(case.judged.shape[0]), np.diff(case.judged.indptr))
            ]
            > 0
        ).any()
        for case in CASES
    )
    assert max(case.judged.shape[0] for case in CASES) <= 3000


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.judged.shape[0] <= 200][:60], ids=lambda case: str(case.number)
)
def test_every_case_is_symmetric_definite_and_has_its_right_hand_side_in_the_range(case):
    judged = case.judged.toarray()
    assert np.array_equal(np.asarray(case.matrix.toarray(), np.float64) != 0, judged != 0)
    assert abs(judged - judged.T).max() <= 1e-14 * abs(judged).max()
    root = np.sqrt(np.where(np.diag(judged) > 0, np.diag(judged), 1.0))
    assert np.linalg.eigvalsh(judged / root[:, None] / root).min() >= -1e-13 * len(root)
    labels = np.asarray(sparse.csgraph.connected_components(abs(case.judged) > 0, directed=False)[1])
    for part in range(labels.max() + 1):
        inside = labels == part
        if abs(judged[inside].sum(axis=1)).max() <= 1e-13 * abs(judged[inside]).max():
            assert abs(case.b[inside].sum()) <= 1e-10 * max(abs(case.b[inside]).sum(), 1e-4 * abs(case.b).mean())


def test_a_diagonal_that_dominates_does_so_in_float32_too():
    rng = np.random.default_rng(0)
    off = sparse.random_array((300, 300), density=0.05, rng=rng, format="csr")
    off = -(off + off.T)
    tight = sparse.csr_array(off + sparse.diags_array(-np.asarray(off.sum(axis=1)).ravel()))
    plain = tight.astype(np.float32).astype(np.float64)
    assert (np.asarray(plain.sum(axis=1)).ravel() < 0).any()  # rounding alone loses it
    rounded = matrix_cases._rounded_to_single(tight, np.zeros(300, np.int64))
    assert rounded.dtype == np.float32
    assert (np.asarray(rounded.astype(np.float64).sum(axis=1)).ravel() >= 0).all()
    assert abs(rounded - tight).max() < 3e-7 * abs(tight).max()


def test_a_case_comes_back_from_its_number_and_differs_from_its_neighbours():
    one, again = make_matrix_case(5, 7, 1000), make_matrix_case(5, 7, 1000)
    np.testing.assert_array_equal(one.b, again.b)
    np.testing.assert_array_equal(one.matrix.data, again.matrix.data)
    assert make_matrix_case(5, 8, 1000).summary != one.summary != make_matrix_case(6, 7, 1000).summary


def exact(matrix, b, x):
    """‖b − A x‖²/‖b‖² and max |r|/(|A||x| + |b|), in fractions."""
    n = len(b)
    r, size = [Fraction(float(v)) for v in b], [abs(Fraction(float(v))) for v in b]
    entries = matrix.tocoo()
    for i, j, value in zip(entries.row, entries.col, entries.data, strict=True):
        r[i] -= Fraction(float(value)) * Fraction(float(x[j]))
        size[i] += abs(Fraction(float(value)) * Fraction(float(x[j])))
    square = sum(v * v for v in r) / sum(Fraction(float(v)) ** 2 for v in b)
    return float(square) ** 0.5, max(float(abs(r[i]) / size[i]) for i in range(n) if size[i])


@pytest.mark.parametrize("unit", [1.0, 1e-200, 1e200])
def test_residuals_are_those_of_exact_arithmetic_at_any_size(unit):
    rng = np.random.default_rng(0)
    matrix = sparse.coo_array(gallery.matrix("lognormal-3d", 64))
    twice = sparse.coo_array((np.tile(matrix.data / 2, 2) * unit, (np.tile(matrix.row, 2), np.tile(matrix.col, 2))))
    x = rng.standard_normal(64)
    b = (twice @ x) * (1 + 1e-9 * rng.standard_normal(64))
    found = matrix_residual(twice, b, x)
    relative, backward = exact(twice, b, x)
    assert found.relative == pytest.approx(relative, rel=1e-6)
    assert found.backward_error == pytest.approx(backward, rel=1e-6)
    assert found.rounding < 1e-12
    assert found.meets(2 * relative)
    assert not found.meets(relative / 2 - found.rounding)


def test_the_scaled_residual_sees_a_row_that_a_penalty_hides():
    n = 50
    matrix = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tolil()
    matrix[0, 0] = 1e12
    b = np.ones(n)
    b[0] = 1e12
    wrong = matrix_residual(matrix, b, np.eye(n)[0])
    assert wrong.relative < 1e-10
    assert wrong.scaled == pytest.approx(1.0, rel=0.2)
    assert not wrong.meets(1e-6)
    assert not matrix_residual(matrix, b, np.full(n, np.nan)).meets(1e-6)
    for x in np.random.default_rng(0).standard_normal((3, n)):  # of a decided unknown that is wrong, too
        found, known = matrix_residual(matrix, b, x), norms.scaled_residual(sparse.csr_array(matrix), b, x)
        assert found.scaled == pytest.approx(known, rel=1e-12)


def test_a_sound_solver_is_found_right_and_failures_are_explained():
    settings = MatrixTrialSettings()
    for case in CASES[:60]:
        trial = run_matrix_trial(case, "scipy-direct", settings)
        assert not trial.wrong, trial
        assert not trial.raised, trial
        assert trial.result == "converged" or trial.explanation, trial
    slow = run_matrix_trial(CASES[0], "cg", MatrixTrialSettings(limit=1))
    assert slow.result == Result.MAX_ITERATIONS.value
    assert slow.explanation.startswith("slow: 1 iterations")


def test_a_wrong_converged_is_seen(monkeypatch):
    monkeypatch.setattr(PreparedMatrix, "_figures", lambda *_: Figures(0.0, 0.0))  # every verdict becomes CONVERGED
    trial = run_matrix_trial(CASES[0], "cg", MatrixTrialSettings(limit=1))
    assert trial.result == "converged"
    assert trial.wrong


def test_what_is_raised_is_recorded_and_regret_is_that_of_solvers_that_converged(monkeypatch):
    trial = run_matrix_trial(CASES[1], "no-such", MatrixTrialSettings())
    assert trial.raised.startswith("ValueError: solver must be one of")
    took = {"auto": 0.4, "ic-cg": 0.1, "scipy-direct": 0.2}
    monkeypatch.setattr(matrix_trial, "_timed", lambda case, solver, *_: took.get(solver))
    found = measure_regret(CASES[1], MatrixTrialSettings())
    assert (found.automatic, found.best, found.solver) == (0.4, 0.1, "ic-cg")
    assert found.excessive
    took["auto"] = 0.19
    assert not measure_regret(CASES[1], MatrixTrialSettings()).excessive
    took.clear()
    assert measure_regret(CASES[1], MatrixTrialSettings()) is None
