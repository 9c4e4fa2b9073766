"""The estimators: scikit-learn's checks, the guard, the merged network, warm starts, storage, exports."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boosted import CX, CY, X, Y, classifier, labels, regressor
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.inspection import partial_dependence
from sklearn.utils.estimator_checks import parametrize_with_checks

from relaxon.neuromorphic.boosting import (
    GradientBoostedNetworkClassifier,
    GradientBoostedNetworkRegressor,
    load,
)
from relaxon.neuromorphic.boosting.stages import reference


@parametrize_with_checks(
    [
        GradientBoostedNetworkRegressor(n_units=20),
        GradientBoostedNetworkClassifier(n_units=20),
        GradientBoostedNetworkRegressor(n_units=8, layers=(5, 3), missing="mean", loss="huber"),
        GradientBoostedNetworkClassifier(n_units=8, layers=(5, 3), missing="mean", units_per_stage=2),
    ]
)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


# ---- the published algorithm ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_the_published_algorithm_reaches_the_plain_references_loss(task: Any) -> None:
    x, y = (X, Y) if task == "regression" else (CX, labels(2 if task == "binary" else 3))
    z = (x - x.mean(0)) / x.std(0)
    targets = {"regression": Y[:, None], "binary": 2.0 * labels(2)[:, None] - 1.0, "multiclass": np.eye(3)[CY]}[task]
    options = {"newton": "published", "subsample": 1.0, "learning_rate": 0.5}
    make = regressor if task == "regression" else classifier
    ours = [make(20, **options, random_state=seed).fit(x, y).train_loss_[-1] for seed in range(5)]
    plain = [
        reference.fit_published(z, targets, task, n_units=20, learning_rate=0.5, subsample=1.0, seed=seed).losses[-1]
        for seed in range(5)
    ]
    assert np.median(ours) == pytest.approx(np.median(plain), rel=0.15)


def test_the_published_start_and_first_step_are_the_formulas() -> None:
    """Against the formulas of the paper's table, from the stage that was fitted."""
    y = labels(2)
    model = classifier(1, newton="published", subsample=1.0, learning_rate=1.0, ridge=1e-4).fit(CX, y)
    signs = 2.0 * y - 1.0
    start = 0.5 * np.log((1 + signs.mean()) / (1 - signs.mean()))
    assert model.network_.initial[0] == pytest.approx(start, rel=1e-12)
    raw = model.decision_function(CX)
    moved = raw / 2.0 - start
    r = 2.0 * signs / (1.0 + np.exp(2.0 * signs * start))
    # Newton's step makes ⟨r, ρf⟩ = Σ (ρf)² r (2y − r), whatever the size of f.
    assert (r * moved).sum() == pytest.approx((moved**2 * r * (2 * signs - r)).sum(), rel=1e-8)


def test_a_published_stage_minimises_the_raw_residuals_objective() -> None:
    """With a heavy ridge, whose weight against targets in their own unit is what the paper's objective says."""
    ridge, y = 50.0, 10.0 * Y
    model = regressor(1, newton="published", subsample=1.0, learning_rate=1.0, ridge=ridge, stage_tolerance=0.0)
    stage = model.fit(X, y).stages()[0]
    z, w = model.network_.standardised(X), np.full(len(X), 1.0 / len(X))
    theta = np.concatenate([stage.weights.ravel(), stage.bias, stage.output.ravel(), stage.intercept])
    value, gradient = reference.objective(theta, z, (y - y.mean())[:, None], w, 1, ridge / len(X))
    assert np.abs(gradient).max() < 1e-4 * value


# ---- the merged network ------------------------------------------------------------------------------------------


def summed(model: Any, x: Any) -> Any:
    """The additive model stage by stage, by nothing of the merged network but its stages."""
    network = model.network_
    features = [np.nan_to_num(np.clip((x - network.shift) * network.scale, -1e6, 1e6))]
    F, layer, hidden = np.tile(network.initial, (len(x), 1)), 0, []
    for stage in model.stages():
        if stage.layer > layer:
            features.append(2.0 * np.hstack(hidden) - 1.0)
            layer, hidden = stage.layer, []
        h = 1.0 / (1.0 + np.exp(-(np.hstack(features) @ stage.weights.T + stage.bias)))
        hidden.append(h)
        F = F + h @ stage.output + stage.intercept
    return network.gain * F


@pytest.mark.parametrize("layers", [None, (7, 4, 2)])
@pytest.mark.parametrize("kind", ["regression", "outputs", "binary", "classes"])
def test_the_merged_network_is_the_staged_sum(kind: str, layers: Any) -> None:
    options = {"layers": layers, "units_per_stage": 2, "learning_rate": 0.7}
    if kind in ("regression", "outputs"):
        y = Y if kind == "regression" else np.column_stack([Y, 1e5 * X[:, 0] * X[:, 1]])
        model, x = regressor(**options).fit(X, y), X
    else:
        model, x = classifier(**options).fit(CX, labels(2 if kind == "binary" else 3)), CX
    merged, staged = model.network_.raw(x), summed(model, x)
    np.testing.assert_allclose(merged, staged, rtol=1e-12, atol=1e-12 * np.abs(staged).max())
    last = list(model.network_.staged_raw(x))[-1]
    np.testing.assert_allclose(merged, last, rtol=1e-12, atol=1e-12 * np.abs(staged).max())


@pytest.mark.parametrize("layers", [None, (5, 4, 3)])
def test_a_truncated_model_is_the_staged_prediction(layers: Any) -> None:
    model = classifier(12, layers=layers, units_per_stage=2).fit(CX, CY)
    for stage, expected in enumerate(model.staged_predict_proba(CX), start=1):
        shorter = model.truncate(int(model.network_.ends[stage]))
        assert shorter.n_stages_ == stage
        np.testing.assert_allclose(shorter.predict_proba(CX), expected, rtol=1e-10, atol=1e-13)
    constant = model.truncate(0).predict_proba(CX)
    np.testing.assert_allclose(constant, np.tile(np.bincount(CY) / len(CY), (len(CX), 1)), rtol=1e-12)
    assert model.n_units_ == 12


def test_a_truncated_model_is_the_one_trained_with_fewer_units() -> None:
    long, short = regressor(10).fit(X, Y), regressor(6).fit(X, Y)
    np.testing.assert_array_equal(long.truncate(6).predict(X), short.predict(X))


def test_a_cut_within_a_stage_is_refused_with_the_nearest() -> None:
    model = regressor(12, units_per_stage=4).fit(X, Y)
    low, high = model.network_.ends[1:3]
    with pytest.raises(ValueError, match=rf"n_units must be .* got {low + 1}; nearest: {low}, {high}"):
        model.truncate(int(low) + 1)
    with pytest.raises(TypeError, match="n_units"):
        model.truncate(True)


def test_a_last_stage_may_have_fewer_units() -> None:
    model = regressor(10, units_per_stage=4).fit(X, Y)
    # Units that are dead are made up for by later stages.
    sizes = model.network_.sizes
    assert (sizes.sum(), sizes[0], sizes.max()) == (10, 4, 4)
    assert model.n_dead_units_ == 4 * (len(sizes) - 1) + min(4, 10 - sizes[:-1].sum()) - 10


@pytest.mark.parametrize("layers", [None, (6, 4)])
def test_the_torch_module_gives_the_raw_outputs_and_their_gradient(layers: Any) -> None:
    torch = pytest.importorskip("torch")
    model = classifier(10, layers=layers).fit(CX, CY)
    module = model.to_torch()
    x = torch.tensor(CX, requires_grad=True)
    raw = module(x)
    np.testing.assert_allclose(raw.detach().numpy(), model.decision_function(CX), rtol=1e-10, atol=1e-12)
    (gradient,) = torch.autograd.grad(raw[:, 1].sum(), x)
    ours = model.network_.input_gradient(CX, 1) * model.network_.scale
    np.testing.assert_allclose(gradient.numpy(), ours, rtol=1e-9, atol=1e-12)
    assert sum(p.requires_grad for p in module.parameters()) == 2 * (2 if layers is None else 3)


@pytest.mark.parametrize("kind", ["regression", "poisson", "binary", "classes", "deep", "none"])
def test_the_onnx_graph_gives_the_predictions(kind: str) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    x = np.vstack([X, np.full((1, 6), np.nan), np.full((1, 6), 1e300)]) if kind in ("regression", "poisson") else CX
    if kind in ("regression", "poisson"):
        loss = "squared" if kind == "regression" else "poisson"
        model = regressor(loss=loss, missing="mean").fit(X, np.abs(Y))
        expected = model.network_.raw(x)
        expected = np.exp(expected) if kind == "poisson" else expected
    else:
        y = labels(2) if kind == "binary" else CY
        model = classifier(layers=(5, 4) if kind == "deep" else None).fit(CX, y)
        model = model.truncate(0) if kind == "none" else model
        expected = model.predict_proba(CX)
    proto = onnx.load_from_string(model.to_onnx().SerializeToString())
    (found,) = ReferenceEvaluator(proto).run(None, {"X": x})
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


# ---- the same in another way -------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    first, second = regressor(restarts=2).fit(X, Y).predict(X), regressor(restarts=2).fit(X, Y).predict(X)
    np.testing.assert_array_equal(first, second)
    assert (first != regressor(restarts=2, random_state=1).fit(X, Y).predict(X)).any()


@pytest.mark.parametrize("layers", [((9,), (14,)), ((5, 4), (5, 7))])
def test_a_warm_start_goes_on_to_the_same_bits(layers: Any) -> None:
    at_once = classifier(layers=layers[1], units_per_stage=2).fit(CX, CY)
    model = classifier(layers=layers[0], units_per_stage=2, warm_start=True)
    # The first run ends within a stage of the second: units that are whole stages in both.
    model.set_params(layers=(8,) if layers[0] == (9,) else (5, 3)).fit(CX, CY)
    assert model.n_units_ == 8
    model.set_params(layers=layers[1]).fit(CX, CY)
    if layers[0] == (9,):
        np.testing.assert_array_equal(model.predict_proba(CX), at_once.predict_proba(CX))
    assert model.n_units_ == at_once.n_units_
    assert (np.diff(model.train_loss_) <= 0.0).all()


def test_a_warm_start_with_fewer_units_or_other_classes_is_refused() -> None:
    model = classifier(8, warm_start=True).fit(CX, CY)
    with pytest.raises(ValueError, match="n_units must be at least"):
        model.set_params(n_units=4).fit(CX, CY)
    with pytest.raises(ValueError, match="classes of the previous fit"):
        model.set_params(n_units=10).fit(CX, labels(2))


@pytest.mark.parametrize("make", [regressor, classifier])
def test_a_weight_is_so_many_rows_bit_for_bit(make: Any) -> None:
    x, y = (X[:80], Y[:80]) if make is regressor else (CX[:80], CY[:80])
    counts = np.random.default_rng(0).integers(0, 4, 80)
    weighted = make().fit(x, y, sample_weight=counts)
    repeated = make().fit(np.repeat(x, counts, axis=0), np.repeat(y, counts))
    np.testing.assert_array_equal(weighted.network_.raw(x), repeated.network_.raw(x))


def test_weights_count_in_a_stage_that_sees_a_part_of_the_rows() -> None:
    """Half of the rows say the opposite and weigh nothing to speak of; the published step does not mend a stage."""
    y, light = X[:, 3].copy(), np.arange(len(X)) % 2 == 0
    y[light] *= -1.0
    model = regressor(1, newton="published", subsample=0.5, learning_rate=1.0)
    model.fit(X, y, sample_weight=np.where(light, 1e-9, 1.0))
    assert np.corrcoef(model.predict(X), X[:, 3])[0, 1] > 0.99
    assert np.std(model.predict(X)) > 0.9 * np.std(X[:, 3])


def test_class_weights_are_sample_weights() -> None:
    y = labels(2)
    by_class = classifier(class_weight={0: 5.0, 1: 0.5}).fit(CX, y)
    by_row = classifier().fit(CX, y, sample_weight=np.where(y == 0, 5.0, 0.5))
    np.testing.assert_array_equal(by_class.predict_proba(CX), by_row.predict_proba(CX))
    assert by_class.predict(CX).mean() < classifier().fit(CX, y).predict(CX).mean()


def test_scaling_a_target_scales_the_prediction() -> None:
    for loss in ("squared", "absolute", "huber", "quantile"):
        one = regressor(loss=loss).fit(X, Y).predict(X)
        for factor in (2.0**40, 2.0**-300):
            np.testing.assert_allclose(regressor(loss=loss).fit(X, factor * Y).predict(X), factor * one, rtol=1e-9)


def test_an_affine_change_of_the_columns_changes_nothing() -> None:
    moved = X * np.array([1e6, 1e-6, 3.0, 1.0, 1e3, 7.0]) + np.array([1e6, 0.0, -5.0, 0.0, 1e8, 0.0])
    there, here = regressor().fit(moved, Y), regressor().fit(X, Y)
    # The path of the optimiser multiplies rounding, so the same fit, not the same bits.
    assert np.corrcoef(there.predict(moved), here.predict(X))[0, 1] > 0.98
    assert there.train_loss_[-1] == pytest.approx(here.train_loss_[-1], rel=0.3)


def test_no_input_is_modified() -> None:
    x, y, w = X.copy(), Y.copy(), np.linspace(0.0, 1.0, len(Y))
    kept = w.copy()
    for array in (x, y, w):
        array.flags.writeable = False
    regressor(missing="mean", early_stopping=True).fit(x, y, sample_weight=w).predict(x)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(w, kept)


def test_float32_and_other_memory_orders_are_taken() -> None:
    expected = regressor(5).fit(X.astype(np.float32).astype(float), Y).predict(X)
    found = regressor(5).fit(np.asfortranarray(X.astype(np.float32)), Y).predict(X[::-1])[::-1]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# ---- what a user asks of it --------------------------------------------------------------------------------------


def test_it_learns() -> None:
    train, test = slice(0, 500), slice(500, None)
    assert regressor(60).fit(X[train], Y[train]).score(X[test], Y[test]) > 0.9
    dx, dy = load_digits(return_X_y=True)
    assert classifier(40).fit(dx[:1200], dy[:1200]).score(dx[1200:], dy[1200:]) > 0.85
    ix, iy = load_iris(return_X_y=True)
    assert classifier(20).fit(ix[::2], iy[::2]).score(ix[1::2], iy[1::2]) > 0.9


def test_a_wave_is_learned_unit_by_unit() -> None:
    """Small starting weights show a single unit the slope of a wave only, which is none."""
    x = np.linspace(-2, 2, 200)[:, None]
    y = np.sin(3 * x[:, 0])
    assert regressor(100).fit(x, y).score(x, y) > 0.95


def test_deep_layers_see_the_layers_below() -> None:
    model = regressor(layers=(6, 5, 4)).fit(X, Y)
    assert [layer.weights.shape for layer in model.network_.layers] == [(6, 6), (5, 12), (4, 17)]
    # Cutting the backbone's influence changes the prediction: the deeper units do use it.
    deep = model.network_.layers[2].weights
    assert np.abs(deep[:, 6:]).max() > 1e-3


def test_quantiles_cover_their_share() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (2000, 1))
    y = x[:, 0] + (1 + np.abs(x[:, 0])) * rng.normal(size=2000)
    for quantile in (0.1, 0.5, 0.9):
        predicted = regressor(20, loss="quantile", quantile=quantile).fit(x, y).predict(x)
        assert (y <= predicted).mean() == pytest.approx(quantile, abs=0.03)


def test_robust_losses_ignore_outliers() -> None:
    y = Y.copy()
    y[::15] += 1e4
    for loss in ("absolute", "huber"):
        error = np.median(np.abs(regressor(40, loss=loss).fit(X, y).predict(X) - Y))
        assert error < 1.5
    assert np.median(np.abs(regressor(40).fit(X, y).predict(X) - Y)) > 5.0


def test_outputs_of_different_sizes_are_each_fitted() -> None:
    y = np.column_stack([Y, 1e6 * X[:, 3], 1e-6 * X[:, 4]])
    predicted = regressor(60).fit(X, y).predict(X)
    share = 1 - ((predicted - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    assert share.min() > 0.85


def test_importances_find_the_columns_that_matter() -> None:
    model = regressor(40).fit(X, Y)
    assert model.feature_importances_.sum() == pytest.approx(1.0)
    assert model.feature_importances_.argmin() == 5  # friedman1 uses the first five
    permuted = model.permutation_importances(X, Y, random_state=0)
    assert permuted.argmin() == 5
    assert partial_dependence(model, X, [0], grid_resolution=5)["average"].shape == (1, 5)


@pytest.mark.parametrize("kind", ["regression", "outputs", "binary", "strings", "deep"])
def test_a_saved_model_is_the_same_and_goes_on_the_same(kind: str, tmp_path: Path) -> None:
    if kind in ("regression", "outputs"):
        x, y = X, Y if kind == "regression" else np.column_stack([Y, -Y])
        model = regressor(8, warm_start=True).fit(x, y)
    else:
        x, y = CX, labels(2 if kind == "binary" else 3)
        y = np.array(["a", "ü", "c"])[y] if kind == "strings" else y
        weights = {"a": 2.0, "ü": 1.0, "c": 1.0} if kind == "strings" else None
        layers = (5, 3) if kind == "deep" else None
        model = classifier(8, layers=layers, class_weight=weights, warm_start=True).fit(x, y)
    model.save(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["model.json", "network.safetensors"]
    again: Any = load(tmp_path / "model")
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    for one in (model, again):
        one.set_params(**({"layers": (5, 6)} if kind == "deep" else {"n_units": 11})).fit(x, y)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.n_units_ == 11


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path)
    classifier(3).fit(CX, CY).save(tmp_path)
    good = (tmp_path / "model.json").read_text()
    for bad in ("{", "[]", good.replace('"format": 1', '"format": 99'), good.replace('"kind"', '"sort"')):
        (tmp_path / "model.json").write_text(bad)
        with pytest.raises(ValueError, match=r"model\.json|boosted network"):
            load(tmp_path)
    (tmp_path / "model.json").write_text(good.replace('"n_features": 8', '"n_features": 7'))
    with pytest.raises(ValueError, match="weights_0"):
        load(tmp_path)
    (tmp_path / "model.json").write_text(good)
    (tmp_path / "network.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(ValueError, match="boosted network"):
        load(tmp_path)


def test_an_unfitted_estimator_says_so() -> None:
    from sklearn.exceptions import NotFittedError

    for ask in (lambda m: m.predict(X), lambda m: m.truncate(1), lambda m: m.stages(), lambda m: m.n_units_):
        with pytest.raises(NotFittedError):
            ask(clone(regressor()))
