"""Boosted networks of sign units: their code, their fit, exact prediction in bits, storage, what is refused."""

import numpy as np
import pytest

from relaxon.cli import main
from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier as Classifier
from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor as Regressor
from relaxon.neuromorphic.boosting import load
from relaxon.neuromorphic.boosting.networks.signs import SignNetwork
from relaxon.neuromorphic.boosting.stages.fitting import Draws, StageSettings
from relaxon.neuromorphic.boosting.stages.sign_units import (
    SignStageFitter,
    best_bias,
    choose_thresholds,
    encode,
    sign_activations,
)
from relaxon.neuromorphic.checkpoints import Checkpoints


def table(n=300, d=5, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, d))
    return x, np.where(x[:, 0] > 0, 2.0, 0.0) - np.where(x[:, 1] > 0.5, 1.0, 0.0) + 0.05 * x[:, 2]


def test_thresholds_part_the_rows_evenly_and_never_meet_a_value():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=999), rng.integers(0, 3, 999), np.full(999, 7.0), rng.exponential(size=999)])
    x[:400, 3] = 0.0
    found = choose_thresholds(x, np.ones(999), 4)
    assert found.shape == (4, 4)
    np.testing.assert_allclose([(x[:, 0] > t).mean() for t in found[:, 0]], [0.8, 0.6, 0.4, 0.2], atol=0.01)
    assert found[:, 1].tolist() == [0.5, 1.5, np.inf, np.inf]
    assert np.isinf(found[:, 2]).all()
    assert (np.diff(found[:, 3]) > 0).all()
    assert not np.isin(x[:, 3], found[:, 3]).any()


def test_the_code_says_which_thresholds_a_row_passes():
    thresholds = np.array([[0.0, 10.0], [1.0, 20.0]])
    code = encode(np.array([[0.5, 25.0], [np.nan, -1.0]]), thresholds, np.array([2.0, 0.0]))
    assert code.tolist() == [[1, 1, -1, 1], [1, -1, 1, -1]]


def test_the_bias_is_the_best_of_all():
    rng = np.random.default_rng(0)
    sums, w = 2.0 * rng.integers(0, 11, 80) - 10, rng.random(80)
    w /= w.sum()
    r = rng.normal(size=(2, 80))
    gain, bias = best_bias(sums, r, w, 10)
    rest = {}
    for b in range(-9, 10, 2):
        h = np.where(sums + b > 0, 1.0, -1.0)
        H = np.stack([h, np.ones(80)])
        fit = np.linalg.lstsq((H * np.sqrt(w)).T, (r * np.sqrt(w)).T, rcond=None)[0]
        rest[b] = (np.square(r - fit.T @ H) @ w).sum()
    assert bias == min(rest, key=rest.get)
    centred = r - (r @ w)[:, None]
    assert gain == pytest.approx((np.square(centred) @ w).sum() - rest[bias])


def test_a_stage_finds_the_unit_that_made_the_targets():
    rng = np.random.default_rng(0)
    x = np.where(rng.random((12, 400)) < 0.5, -1.0, 1.0)
    s = np.where(rng.random(12) < 0.5, -1.0, 1.0)
    r = (3.0 * np.where(s @ x + 1.0 > 0, 1.0, -1.0) - 0.5)[None]
    settings = StageSettings(1, 200, 1e-5, 0.0, 0.0, True, 1, 8)
    theta = SignStageFitter(settings, 12, 1).fit(x, r, np.full(400, 1 / 400), Draws(1, 0)).theta
    h = sign_activations(theta[:12].reshape(1, 12), theta[12:13], x)
    np.testing.assert_allclose(theta[13] * h + theta[14], r, atol=1e-9)
    assert set(np.unique(theta[:12])) == {-1.0, 1.0}


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (Regressor, {}),
        (Regressor, {"bits": 13, "units_per_stage": 3}),
        (Classifier, {"bits": 20}),
        (Classifier, {"loss": "comp-sum", "tau": 1.5, "bits": 1}),
    ],
)
def test_bits_predict_what_the_signs_do_exactly(make, options):
    x, y = table()
    target = y if make is Regressor else (y * 2).astype(int)
    model = make(9, binary=True, random_state=0, **options).fit(x, target)
    network = model.network_
    assert isinstance(network, SignNetwork)
    assert set(np.unique(network.layers[0].weights)) == {-1.0, 1.0}
    assert np.array_equal(network.raw(x), network.raw_unpacked(x))
    assert np.array_equal(network.raw(x[5:6]), network.raw(x)[5:6])
    # No sum is 0: each unit is a sign.
    sums = network.standardised(x) @ network.layers[0].weights.T + network.layers[0].bias
    assert (np.abs(sums) >= 1.0).all()
    # The stages have the output weights as they are, the packed network whole multiples of a step of them.
    staged = list(network.staged_raw(x))
    for one, wanted in ((network, staged[-1]), (network.truncated(2), staged[1])):
        assert (np.abs(one.raw(x) - wanted) <= 0.5001 * one.steps * one.units).all()
        assert np.abs(one.whole_outputs).max() == 2**11 - 1
    again = make(9, binary=True, random_state=0, **options).fit(x, target)
    assert np.array_equal(again.network_.raw(x), network.raw(x))


def test_steps_are_learned_to_the_end_and_the_loss_falls():
    x, y = table()
    model = Regressor(20, binary=True, bits=8, random_state=0).fit(x, y)
    assert model.score(x, y) > 0.9
    assert (np.diff(model.train_loss_) <= 0).all()
    assert model.feature_importances_.sum() == pytest.approx(1.0)


def test_missing_inputs_count_as_the_mean():
    x, y = table()
    x[::7, 0] = np.nan
    model = Regressor(6, binary=True, missing="mean", random_state=0).fit(x, y)
    filled = np.where(np.isnan(x), model.network_.shift, x)
    assert np.array_equal(model.predict(x), model.predict(filled))


@pytest.mark.parametrize("make", [Classifier, Regressor])
def test_sign_networks_are_stored_in_bits_and_come_back_whole(make, tmp_path):
    x, y = table()
    target = y if make is Regressor else (y > 0.7).astype(int)
    model = make(30, binary=True, bits=16, random_state=0).fit(x, target)
    model.save(tmp_path / "bits")
    again = load(tmp_path / "bits")
    assert np.array_equal(again.predict(x), model.predict(x))
    assert again.network_.truncated(3).units == 3
    real = 8 * model.network_.layers[0].weights.size
    assert (tmp_path / "bits" / "network.safetensors").stat().st_size < real / 2


def test_a_fit_that_was_cut_off_goes_on_to_the_same_bits(tmp_path):
    x, y = table()
    whole = Regressor(6, binary=True, random_state=3).fit(x, y)
    Regressor(6, binary=True, random_state=3).fit(
        x, y, callback=lambda p: p.stage == 2, checkpoints=Checkpoints(tmp_path, 0.0)
    )
    resumed = Regressor(6, binary=True, random_state=3).fit(x, y, checkpoints=Checkpoints(tmp_path, 0.0))
    assert np.array_equal(resumed.predict(x), whole.predict(x))
    longer = Regressor(4, binary=True, random_state=3, warm_start=True).fit(x, y)
    longer.set_params(n_units=6).fit(x, y)
    np.testing.assert_allclose(longer.predict(x), whole.predict(x), atol=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"newton": "published"}, "newton must be 'guarded' for sign units"),
        ({"layers": (4, 4)}, "layers must have one layer"),
        ({"bits": 0}, "bits must be at least 1"),
        ({"bits": 65}, "bits must be at most 64"),
        ({"binary": "yes"}, "binary must be True or False"),
    ],
)
def test_what_sign_units_cannot_be_is_refused_before_work(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        Regressor(**{"binary": True, **options}).fit(*table(20))


def test_exports_that_count_no_bits_are_refused_with_the_reason():
    x, y = table(40)
    model = Regressor(2, binary=True, random_state=0).fit(x, y)
    for export in (model.to_torch, model.to_onnx):
        with pytest.raises(ValueError, match="binary must be False"):
            export()


def test_the_command_trains_sign_units_and_refuses_what_does_not_go_together(tmp_path, capsys):
    start = ["train", "boosting", "--data", "iris", "--units", "4", "--out", str(tmp_path)]
    assert main([*start, "--binary", "--bits", "3", "--loss", "comp-sum", "--tau", "1.5"]) == 0
    model = load(tmp_path / "model")
    assert (model.binary, model.bits, model.loss, model.tau) == (True, 3, "comp-sum", 1.5)
    capsys.readouterr()
    for options, said in (
        (["--bits", "3"], "--bits goes with --binary"),
        (["--tau", "1.5"], "--tau goes with --loss comp-sum"),
        (["--loss", "huber"], "--loss is for a regression"),
        (["--binary", "--newton", "published"], "newton must be 'guarded'"),
    ):
        assert main([*start, *options]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
