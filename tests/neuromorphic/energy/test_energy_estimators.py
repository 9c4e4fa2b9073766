"""The estimators: scikit-learn's checks, densities that integrate to one, answers that say when not to trust them."""

import json
import math
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sklearn.base import clone  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from relaxon.neuromorphic.energy import (  # noqa: E402
    MECO,
    EnergyDensity,
    EnergyOutlierDetector,
    EnergyRegressor,
    GaussianNoise,
    ImportanceSampling,
    MLPEnergy,
    UntrustedDensityWarning,
    load_energy,
    load_estimator,
    log_partition,
    planar,
    save_energy,
)
from relaxon.neuromorphic.energy.estimators.trimming import select_dense_rows  # noqa: E402
from relaxon.neuromorphic.energy.training.held_out import ensure_variation  # noqa: E402

FAST = {"steps": 60, "random_state": 0}


@parametrize_with_checks(
    [
        EnergyDensity((8,), partition_draws=500, steps=6, random_state=0),
        EnergyOutlierDetector(hidden_sizes=(8,), noise="gaussian", steps=6, random_state=0),
        EnergyRegressor((8,), nodes=60, **FAST),
    ]
)
@pytest.mark.usefixtures("brief_search")
def test_scikit_learn_s_own_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def moons(count=3000, seed=1):
    return planar("two-moons").sample(count, seed)


@pytest.fixture(scope="module")
def moon_model():
    # Noise that is not the answer by itself, as kernels are here.
    return EnergyDensity((32, 32), noise="mixture", steps=300, random_state=0).fit(moons(1000))


def test_the_density_integrates_to_one_and_comes_near_the_truth(moon_model):
    truth = planar("two-moons")
    nodes, cell = truth.nodes(150)
    log_p = moon_model.score_samples(nodes)
    found = moon_model.log_partition_
    assert found.trusted
    assert moon_model.verdict_.trusted
    mass = math.log(np.exp(log_p).sum() * cell)
    assert abs(mass) < 5 * found.standard_error + 2e-3
    gaussian = EnergyDensity((), noise="gaussian", steps=1, random_state=0).fit(moons())
    gap = truth.cross_entropy(log_p, 150) - truth.cross_entropy(truth.log_density(nodes), 150)
    plain = truth.cross_entropy(gaussian.score_samples(nodes), 150) - truth.cross_entropy(truth.log_density(nodes), 150)
    assert -1e-3 < gap < 0.15
    assert gap < 0.5 * plain


def test_the_standard_error_of_log_densities_is_that_of_fresh_estimates_of_log_z(moon_model):
    x = moons(7)
    values, errors = moon_model.score_samples(x, return_std=True)
    np.testing.assert_array_equal(values, moon_model.score_samples(x))
    assert errors.shape == values.shape
    assert errors[0] > 0
    fewer = 16
    method = ImportanceSampling(moon_model.noise_, moon_model.partition_draws // fewer, probe=None, far_modes=False)
    fresh = [log_partition(moon_model.energy_, method, seed).value for seed in range(14)]
    assert np.std(fresh, ddof=1) / math.sqrt(fewer) == pytest.approx(errors[0], rel=0.5)


def test_samples_are_of_the_density(moon_model):
    x = moon_model.sample(1500, random_state=3)
    nodes, cell = planar("two-moons").nodes(150)
    p = np.exp(moon_model.score_samples(nodes)) * cell
    for k in range(2):
        assert x[:, k].mean() == pytest.approx(float(p @ nodes[:, k]), abs=0.12)
        assert (x[:, k] ** 2).mean() == pytest.approx(float(p @ nodes[:, k] ** 2), rel=0.08)
    np.testing.assert_array_equal(moon_model.sample(50, random_state=4), moon_model.sample(50, random_state=4))


@pytest.mark.usefixtures("brief_search")
def test_units_of_the_data_are_those_of_the_density():
    x = moons(300)
    made = EnergyDensity((16,), steps=100, partition_draws=4000, random_state=0)
    one, scaled = (clone(made).fit(rows) for rows in (x, 1000 * x + 5))
    np.testing.assert_allclose(
        scaled.score_samples(1000 * x[:50] + 5), one.score_samples(x[:50]) - 2 * math.log(1000), atol=0.05
    )


@pytest.mark.usefixtures("brief_search")
def test_the_same_seed_gives_the_same_bits_and_data_are_left_alone():
    x = moons(300)
    x.flags.writeable = False
    one, two, three = (EnergyDensity((8,), steps=30, random_state=s).fit(x) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.score_samples(x), two.score_samples(x))
    assert (one.score_samples(x) != three.score_samples(x)).any()
    strided = np.asfortranarray(np.repeat(x, 2, axis=0))[::2]
    np.testing.assert_allclose(EnergyDensity((8,), steps=2, random_state=0).fit(strided).mean_, one.mean_, rtol=1e-12)


def test_the_distribution_is_torch_s(moon_model):
    view = moon_model.distribution()
    x = moons(20, 9)
    np.testing.assert_allclose(
        view.log_prob(torch.from_numpy(x)).detach().numpy(), moon_model.score_samples(x), rtol=1e-6
    )
    assert tuple(view.event_shape) == (2,)
    assert view.sample((3,)).shape == (3, 2)


# ---- what is not to be trusted


def untrusted(model, x):
    with pytest.warns(UntrustedDensityWarning):
        model.score_samples(x)
    assert not model.verdict_.trusted
    return model.verdict_.reason


def quiet_fit(model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(x)


def test_duplicated_rows_and_few_rows_are_told():
    rng = np.random.default_rng(0)
    atoms = np.repeat(rng.standard_normal((20, 2)), 20, axis=0)
    assert "rows are distinct" in untrusted(quiet_fit(EnergyDensity((8,), **FAST), atoms), atoms)
    few = rng.standard_normal((6, 2))
    assert "too few" in untrusted(quiet_fit(EnergyDensity((8,), **FAST), few), few)


def test_far_off_noise_and_tails_lighter_than_the_model_s_are_told():
    x = 0.2 * np.random.default_rng(0).standard_normal((500, 2))
    far = GaussianNoise(torch.full((2,), 30.0, dtype=torch.float64), 0.01 * torch.eye(2, dtype=torch.float64))
    model = quiet_fit(EnergyDensity((8,), noise=far, **FAST), x)
    assert not model.verdict_.trusted
    # The noise is a tenth as wide as the data: weights without a variance.
    narrow = GaussianNoise(torch.zeros(2, dtype=torch.float64), 0.01 * torch.eye(2, dtype=torch.float64))
    model = quiet_fit(EnergyDensity((32, 32), noise=narrow, objective="meco", steps=300, random_state=0), x)
    assert not model.verdict_.trusted


@pytest.mark.usefixtures("brief_search")
def test_a_feature_that_varies_in_one_row_alone_is_one_that_varies():
    for odd in range(0, 100, 9):
        x = np.random.default_rng(odd).standard_normal((100, 2))
        x[:, 1] = 3.0
        x[odd, 1] = 4.0
        assert np.isfinite(
            quiet_fit(EnergyDensity((4,), steps=2, partition_draws=500, random_state=0), x)._evaluate_log_density(x)
        ).all()


@pytest.mark.usefixtures("brief_search")
@pytest.mark.parametrize("seed", range(20))
def test_the_rows_that_remain_vary_in_every_feature_that_does(seed):
    z = torch.zeros(40, 8, dtype=torch.float64)
    z[torch.randperm(40, generator=torch.Generator().manual_seed(seed))[:8], torch.arange(8)] = 1.0
    order = torch.randperm(40, generator=torch.Generator().manual_seed(100 + seed))
    found = ensure_variation(z, order, 20)
    assert sorted(found.tolist()) == list(range(40))
    assert bool((z[found[20:]].std(0) > 0).all())


def test_a_constant_feature_has_no_density_and_an_outlier_s_is_lowest():
    x = np.column_stack([moons(400), np.full(400, 7.0)])
    with pytest.raises(ValueError, match="feature"):
        EnergyDensity(**FAST).fit(x)
    with pytest.warns(UserWarning, match="do not vary"):
        detector = EnergyOutlierDetector(**FAST).fit(x)
    odd = x[:5].copy()
    odd[:, 2] = 7.5
    assert (detector.predict(odd) == -1).all()
    assert detector.score_samples(odd).max() < detector.score_samples(x).min()
    with pytest.raises(ValueError, match="vary"):
        EnergyOutlierDetector(**FAST).fit(np.ones((30, 2)))


# ---- outliers and regression


@pytest.mark.usefixtures("brief_search")
def test_outliers_score_below_inliers_and_the_threshold_is_the_contamination():
    x = moons(1000)
    detector = EnergyOutlierDetector(0.1, steps=200, random_state=0).fit(x)
    assert (detector.predict(x) == -1).mean() == pytest.approx(0.1, abs=0.01)
    far = np.random.default_rng(0).uniform(-6, 6, (300, 2))
    far = far[planar("two-moons").log_density(far) < -8]
    assert (detector.predict(far) == -1).mean() > 0.9


@pytest.mark.usefixtures("brief_search")
def test_trimmed_detectors_do_not_learn_a_cluster_of_outliers():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((460, 2)), [3.0, 3.0] + 0.1 * rng.standard_normal((40, 2))])
    before = x.copy()
    judged = np.concatenate([rng.standard_normal((200, 2)), [3.0, 3.0] + 0.1 * rng.standard_normal((20, 2))])
    below = []
    for trim in (0.0, 0.1):
        detector = EnergyOutlierDetector(hidden_sizes=(8,), trim=trim, **FAST).fit(x)
        scores = detector.score_samples(judged)
        below.append(float((scores[200:, None] < scores[None, :200]).mean()))
    assert below[0] < 0.5  # a dense cluster looks like the densest place there is
    assert below[1] > 0.97
    assert np.array_equal(x, before)


def test_trimming_keeps_dense_rows_and_every_feature_that_varies():
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.standard_normal((90, 3)), 9 + 0.01 * rng.standard_normal((10, 3))])
    assert not select_dense_rows(x, 0.1)[90:].any()
    assert select_dense_rows(x, 0.1).sum() == 90
    flagged = np.c_[x, np.r_[np.zeros(90), np.ones(10)], np.ones(100)]
    kept = select_dense_rows(flagged, 0.1)
    assert kept.sum() == 91
    assert np.ptp(flagged[kept], axis=0)[3] == 1


# ---- stored


@pytest.mark.usefixtures("brief_search")
@pytest.mark.parametrize("kind", ["density", "detector", "regressor"])
def test_what_is_stored_answers_with_the_same_bits(kind, tmp_path):
    x = moons(300)
    if kind == "density":
        model = EnergyDensity((8,), **FAST).fit(x)
    elif kind == "detector":
        model = quiet_fit(EnergyOutlierDetector(hidden_sizes=(8,), **FAST), np.column_stack([x, np.ones(300)]))
        x = np.column_stack([x, np.ones(300)])
    else:
        model = EnergyRegressor((8,), nodes=50, **FAST).fit(x, x[:, 0] ** 2)
    model.save(tmp_path / "m")
    again = load_estimator(tmp_path / "m")
    assert type(again) is type(model)
    ask = "predict" if kind == "regressor" else "score_samples"
    np.testing.assert_array_equal(getattr(again, ask)(x), getattr(model, ask)(x))
    assert again.get_params() == model.get_params()
    if kind == "density":
        assert again.log_partition_ == model.log_partition_
        assert again.verdict_ == model.verdict_
        np.testing.assert_array_equal(again.sample(20, random_state=2), model.sample(20, random_state=2))
    files = sorted(path.name for path in (tmp_path / "m").iterdir())
    assert files == ["model.json", "model.safetensors"]
    json.loads((tmp_path / "m" / "model.json").read_text())


def test_what_is_damaged_missing_or_cannot_be_stored_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_estimator(tmp_path / "none")
    model = EnergyDensity((8,), **FAST).fit(moons(200))
    model.save(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    octets = path.read_bytes()
    for broken in (octets[: len(octets) // 2], b"", b"\x80\x04N.", octets[:8] + b"x" * 50 + octets[58:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="model"):
            load_estimator(tmp_path / "m")
    own = EnergyDensity((8,), objective=MECO(0.1), **FAST).fit(moons(200))
    with pytest.raises(TypeError, match="objective"):
        own.save(tmp_path / "n")
    energy = MLPEnergy(3, (5,), seed=2)
    save_energy(energy, tmp_path / "e", {"note": 1}, GaussianNoise(torch.zeros(3), torch.eye(3)))
    found, noise, card = load_energy(tmp_path / "e")
    x = torch.randn(4, 3)
    assert torch.equal(found(x), energy(x))
    assert card == {"note": 1}
    assert noise.event_shape == (3,)
