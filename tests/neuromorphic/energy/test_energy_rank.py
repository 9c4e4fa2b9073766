"""Tables without a density: refused by the names of their features, or said not to be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from relaxon.neuromorphic.energy import EnergyDensity, EnergyOutlierDetector, EnergyRegressor, GaussianNoise
from relaxon.neuromorphic.energy.noise.rank import (
    explain_generalisation_gap,
    explain_rank_deficiency,
    explain_table_rank_deficiency,
)

RNG = np.random.default_rng(0)
A = RNG.standard_normal((300, 3))
KIND = RNG.integers(0, 3, 300)
TABLES = {
    "40 rows of 200 columns": (RNG.standard_normal((40, 200)), "40 rows of 200 features"),
    "c = 2a": (np.c_[A[:, :2], 2 * A[:, 0]], "1 of 3 features are combinations"),
    "c = 2a of another size": (np.c_[A[:, :2], 1e9 * (2e-3 * A[:, 0] + 5)], "1 of 3 features"),
    "a sum": (np.c_[A, A.sum(1)], "1 of 4 features"),
    "single precision": (np.c_[A[:, :2], (A[:, 0].astype(np.float32) / np.float32(3))], "1 of 3 features"),
    "a column with its one-hot": (np.c_[KIND + 0.0, np.eye(3)[KIND]], "2 of 4 features"),
    "a one-hot beside a number": (np.c_[A[:, 0], np.eye(3)[KIND]], "1 of 4 features"),
    "one-hot, all levels of two": (np.c_[np.eye(3)[KIND], np.eye(2)[KIND // 2], A], "of 8 features"),
}


def density(**options: Any) -> EnergyDensity:
    return EnergyDensity((4,), steps=5, partition_draws=1000, random_state=0, **options)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("noise", ["auto", "gaussian", "mixture"])
def test_a_covariance_without_full_rank_is_refused(table: str, noise: str) -> None:
    x, said = TABLES[table]
    with pytest.raises(ValueError, match=f"^X must have a covariance of full rank to have a density; .*{said}"):
        density(noise=noise).fit(x)


@pytest.mark.usefixtures("brief_search")
@pytest.mark.parametrize("table", TABLES)
def test_kernels_have_a_density_there_that_is_not_to_be_trusted(table: str) -> None:
    x, said = TABLES[table]
    for made in (density(noise="kernel"), EnergyOutlierDetector(hidden_sizes=(4,), steps=5, random_state=0)):
        with pytest.warns(ConvergenceWarning, match="not to be trusted.*no full rank"):
            made.fit(x)
        verdict = getattr(made, "density_", made).verdict_
        assert not verdict.trusted
        assert said in verdict.reason


@pytest.mark.parametrize("table", TABLES)
def test_a_gaussian_of_the_users_own_is_refused_too(table: str) -> None:
    x, said = TABLES[table]
    with pytest.raises(ValueError, match=f"^data must have a covariance of full rank; .*{said}"):
        GaussianNoise.fit(torch.from_numpy((x - x.mean(0)) / x.std(0)))


def test_the_detector_refuses_with_other_noise_and_by_the_tables_own_columns() -> None:
    x = np.c_[np.ones(300), A[:, :2], 2 * A[:, 0]]
    with pytest.warns(UserWarning, match="do not vary"), pytest.raises(ValueError, match=r"X must .*: (1|3) \("):
        EnergyOutlierDetector(hidden_sizes=(4,), noise="gaussian", steps=5, random_state=0).fit(x)


def test_the_features_names_are_said() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(np.c_[A[:, :2], 2 * A[:, 0] - 3], columns=["width", "height", "double"])
    with pytest.raises(ValueError, match="'(width|double)' is a combination of '(width|double)'"):
        density().fit(table)


@pytest.mark.parametrize("correlation", [0.0, 0.99, 0.9999])
def test_full_rank_is_found_however_correlated(correlation: float) -> None:
    x = np.c_[A[:, :2], correlation * A[:, 0] + np.sqrt(1 - correlation**2) * A[:, 2]]
    assert explain_table_rank_deficiency(x) == ""
    assert explain_table_rank_deficiency(x * [1e-8, 1.0, 1e8] + 1e3) == ""


def test_rank_is_judged_without_the_unit_of_a_feature() -> None:
    for size in (1e-12, 1.0, 1e12):
        assert "1 of 3" in explain_table_rank_deficiency(np.c_[A[:, :2], size * A[:, 0]])
    assert explain_rank_deficiency(np.zeros((3, 3))) != ""


def test_rows_held_out_speak_against_a_density_of_too_few_rows() -> None:
    """30 features of 40 rows: full rank, training rows at −34, fresh ones at −57; before, trusted."""
    few, more = (np.random.default_rng(1).standard_normal((rows, 30)) for rows in (40, 90))
    with pytest.warns(ConvergenceWarning, match="too few to judge"):
        assert not density(noise="gaussian").fit(few).verdict_.trusted
    with pytest.warns(ConvergenceWarning, match="likelier than rows held out"):
        found = density(noise="gaussian").fit(more[:70])
    fresh = np.random.default_rng(2).standard_normal((500, 30))
    with pytest.warns(UserWarning, match="not to be trusted"):
        assert found.score_samples(more[:70]).mean() - found.score_samples(fresh).mean() > 10


def test_a_density_of_enough_rows_is_trusted() -> None:
    for noise in ("gaussian", "kernel", "auto"):
        found = density(noise=noise).fit(A)
        assert found.verdict_.trusted, found.verdict_.reason


def test_the_gap_is_judged_by_size_and_error() -> None:
    rng = np.random.default_rng(0)
    alike = explain_generalisation_gap(rng.normal(-3, 1, 500), rng.normal(-3.1, 1, 100), 2, 0.5)
    apart = explain_generalisation_gap(rng.normal(-3, 1, 500), rng.normal(-9, 30, 100), 2, 0.5)
    assert alike == ""
    assert "likelier than rows held out by" in apart
    assert "not finite" in explain_generalisation_gap(np.zeros(5), np.array([-np.inf]), 2, 0.5)
    assert explain_generalisation_gap(np.full(50, 2248.0), np.full(10, -5e14), 200, 0.5) != ""


def test_the_regressor_says_whether_rows_held_out_agree(tmp_path: Any) -> None:
    from relaxon.neuromorphic.energy.storage import load_estimator

    y = A[:, 0] + 0.3 * A[:, 1]
    sound = EnergyRegressor((16,), steps=200, random_state=0).fit(A, y)
    assert sound.verdict_.trusted, sound.verdict_.reason
    sound.save(tmp_path / "sound")
    assert load_estimator(tmp_path / "sound").verdict_ == sound.verdict_
    few = RNG.standard_normal((40, 200))
    with pytest.warns(ConvergenceWarning, match="none were held out to judge by"):
        assert not EnergyRegressor((16,), steps=50, random_state=0).fit(few, few[:, 0]).verdict_.trusted
    with pytest.warns(ConvergenceWarning, match="the targets do not vary"):
        assert not EnergyRegressor((16,), steps=50, random_state=0).fit(A, np.ones(300)).verdict_.trusted
