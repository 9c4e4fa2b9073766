"""Scores, coherence, opposing groups, geometry and DiffROAR: closed forms of small models, and invariances."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
from relaxon.neuromorphic.diagnostics import (
    SnapshotSettings,
    block_digits,
    coherence,
    el2n,
    grand,
    input_gradient_roar,
    input_gradients,
    opposing_signals,
    per_sample_gradients,
    representation_geometry,
    train_snapshots,
    train_starts,
)
from relaxon.neuromorphic.diagnostics.shallow import build_shallow_module
from relaxon.neuromorphic.diagnostics.stored import load_model
from relaxon.neuromorphic.equilibrium import EquilibriumClassifier, LayeredNetwork
from relaxon.neuromorphic.equilibrium.classifier.storage import save_classifier

RNG = np.random.default_rng(1)
ROWS = 24
X = RNG.normal(size=(ROWS, 4))
Y = np.arange(ROWS) % 3
DRAWN = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _draw_the_same_in_any_order() -> None:
    RNG.bit_generator.state = DRAWN


def linear(inputs: int = 4, outputs: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs).double()


def two_layer(seed: int, hidden: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 3))


def centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(0)


# Scores


def test_grand_of_a_linear_model_is_its_error_times_the_length_of_the_row_with_a_one() -> None:
    model = linear()
    error = el2n(model, X, Y)
    expected = error.scores * np.sqrt(1.0 + np.square(X).sum(1))
    np.testing.assert_allclose(grand(model, X, Y).scores, expected, rtol=1e-12)


def test_scores_are_means_over_models_and_follow_a_permutation_of_the_rows() -> None:
    models = [linear(seed=seed) for seed in range(3)]
    order = RNG.permutation(ROWS)
    for score in (el2n, grand):
        each = [score(model, X, Y).scores for model in models]
        found = score(models, X, Y)
        np.testing.assert_allclose(found.scores, np.mean(each, axis=0))
        np.testing.assert_allclose(found.spread, np.std(each, axis=0))
        assert found.spread.max() > 0.01
        np.testing.assert_allclose(score(models, X[order], Y[order]).scores, found.scores[order])


def test_suspects_are_predicted_otherwise_and_kept_rows_have_the_highest_scores() -> None:
    model = linear()
    found = el2n(model, X, Y)
    suspects = found.suspects()
    assert 0 < len(suspects) < ROWS
    assert set(suspects) == set(np.flatnonzero(found.predicted.argmax(1) != Y))
    assert (np.diff(found.scores[suspects]) <= 0).all()
    kept = found.keep(0.25)
    assert len(kept) == 6
    assert (np.diff(kept) > 0).all()
    assert found.scores[kept].min() >= np.delete(found.scores, kept).max()
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, got 0"):
        found.keep(0.0)
    with pytest.raises(ValueError, match="must be scores of classes"):
        el2n(linear(outputs=1), X, RNG.normal(size=ROWS)).suspects()


def test_wrong_labels_have_the_highest_early_scores() -> None:
    x = np.concatenate([RNG.normal(size=(60, 4)) + 3 * np.eye(3, 4)[label] for label in range(3)])
    y = np.repeat(np.arange(3), 60)
    wrong = RNG.choice(180, 12, replace=False)
    y[wrong] = (y[wrong] + 1) % 3
    models = train_starts(two_layer, x, y, SnapshotSettings(epochs=8, rate=0.01), starts=3)
    assert len(np.intersect1d(el2n(models, x, y).highest(27), wrong)) >= 10


# Fitted estimators


def test_boosted_networks_have_the_scores_of_their_own_probabilities() -> None:
    x, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    for layers, units in ((None, 6), ((4, 4), 8)):
        model = GradientBoostedNetworkClassifier(n_units=units, layers=layers, random_state=0).fit(x, names)
        expected = np.linalg.norm(model.predict_proba(x) - np.eye(3)[y], axis=1)
        found = el2n(model, x, names)
        np.testing.assert_allclose(found.scores, expected, atol=1e-12)
        assert found.label(2) == "c"
        whole = torch.cat([chunk.flat() for chunk in per_sample_gradients(model, x, names)])
        np.testing.assert_allclose(grand(model, x, names).scores, whole.norm(dim=1), rtol=1e-9)
    with pytest.raises(ValueError, match=r"y must have the labels 'a', 'b', 'c' of the model, got 'd'"):
        el2n(model, x, np.where(y == 0, "d", names))
    binary = GradientBoostedNetworkClassifier(n_units=4, random_state=0).fit(x[50:], names[50:])
    expected = np.sqrt(2) * np.abs(binary.predict_proba(x[50:])[:, 1] - (y[50:] == 2))
    np.testing.assert_allclose(el2n(binary, x[50:], names[50:]).scores, expected, atol=1e-12)
    line = GradientBoostedNetworkRegressor(n_units=4, random_state=0).fit(x[:, :3], x[:, 3])
    residual = np.abs(line.predict(x[:, :3]) - x[:, 3])
    np.testing.assert_allclose(el2n(line, x[:, :3], x[:, 3]).scores, residual, atol=1e-12)
    counts = GradientBoostedNetworkRegressor(n_units=4, loss="poisson", random_state=0).fit(x, y)
    np.testing.assert_allclose(el2n(counts, x, y).scores, np.abs(counts.predict(x) - y), atol=1e-12)


def test_a_classifier_that_relaxes_has_the_scores_of_its_own_probabilities(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = EquilibriumClassifier((4,), epochs=2, random_state=0).fit(x, names)
    expected = np.linalg.norm(model.predict_proba(x) - np.eye(3)[y], axis=1)
    np.testing.assert_allclose(el2n(model, x, names).scores, expected, atol=1e-8)
    assert representation_geometry(model, x, names).layers == ("layer 1",)
    with pytest.raises(ValueError, match=r"X must be \(rows, 4\) as in the fit, got shape \(150, 3\)"):
        el2n(model, x[:, :3], names)
    save_classifier(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.kind == "equilibrium"
    np.testing.assert_allclose(grand(loaded.model, x, names).scores, grand(model, x, names).scores, rtol=1e-9)


class Weights:
    """What the network of a convex estimator holds."""

    hidden, output = RNG.normal(size=(5, 5)), RNG.normal(size=(5, 2))
    shift, scale = RNG.normal(size=4), np.array([1.0, 2.0, 0.0, 0.5])
    target_shift, target_unit = np.array([1.0, -2.0]), np.array([3.0, 0.5])


class Convex:
    network_ = Weights()


def test_the_weights_of_a_convex_network_make_the_same_function() -> None:
    module = build_shallow_module(Convex())
    assert module is not None
    rows = np.hstack([(X - Weights.shift) * Weights.scale, np.ones((ROWS, 1))])
    expected = Weights.target_shift + Weights.target_unit * (np.maximum(rows @ Weights.hidden.T, 0) @ Weights.output)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.tensor(X)), expected)
    target = RNG.normal(size=(ROWS, 2))
    np.testing.assert_allclose(el2n(Convex(), X, target).scores, np.linalg.norm(expected - target, axis=1))
    assert representation_geometry(Convex(), X, target).layers == ("2",)


# Coherence


def test_equal_gradients_have_coherence_m_orthogonal_ones_1_and_opposite_ones_0() -> None:
    model = nn.Linear(ROWS, 1, bias=False).double()
    with torch.no_grad():
        model.weight.zero_()
    equal, opposite = np.ones((ROWS, ROWS)), np.ones((ROWS, ROWS)) * np.where(np.arange(ROWS) % 2, 1.0, -1.0)[:, None]
    for rows, value, pair in (
        (equal, ROWS, 1.0),
        (np.eye(ROWS), 1.0, 0.0),
        (opposite, 0.0, -1.0 / (ROWS - 1)),
    ):
        found = coherence(model, rows, np.ones(ROWS))
        np.testing.assert_allclose([found.values[0], found.pair_alignment[0]], [value, pair], atol=1e-12)
        np.testing.assert_allclose(found.by_parameter["weight"], found.values)
    # A row that weighs nothing counts among the m all the same: 4 equal rows of 8.
    half = np.repeat([1.0, 0.0], 4)[:, None] * np.ones((8, ROWS))
    np.testing.assert_allclose(coherence(model, half, np.ones(8)).values, 4.0)
    fitted = coherence(model, equal, np.zeros(ROWS))
    assert np.isnan(fitted.values).all()


def test_coherence_is_that_of_the_gradients_whatever_their_scale_and_order() -> None:
    model = two_layer(0).double()
    gradients = torch.cat([chunk.flat() for chunk in per_sample_gradients(model, X, Y)]).numpy()
    expected = ROWS * np.square(gradients.mean(0)).sum() / np.square(gradients).sum(1).mean()
    order = RNG.permutation(ROWS)
    np.testing.assert_allclose(coherence(model, X, Y).values, [expected])
    np.testing.assert_allclose(coherence([model, model], X[order], Y[order]).values, [expected] * 2)
    products = gradients @ gradients.T
    pairs = (products.sum() - np.trace(products)) / (ROWS * (ROWS - 1)) / np.trace(products) * ROWS
    np.testing.assert_allclose(coherence(model, X, Y).pair_alignment, [pairs])
    with pytest.raises(ValueError, match=r"got different ones for models\[1\]"):
        coherence([model, linear()], X, Y)


# Opposing signals


def test_the_two_groups_are_the_rows_that_a_step_moves_furthest() -> None:
    before = nn.Linear(2, 1, bias=False).double()
    after = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        before.weight.copy_(torch.tensor([[0.0, 0.0]]))
        after.weight.copy_(torch.tensor([[1.0, 0.0]]))
    x = np.concatenate([np.tile([[4.0, 0.0]], (5, 1)), 0.1 * RNG.normal(size=(20, 2)), np.tile([[4.0, 0.0]], (5, 1))])
    y = np.concatenate([np.full(5, 4.0), 0.1 * RNG.normal(size=20), np.full(5, -4.0)])
    found = opposing_signals([before, before, after], x, y, group=5)
    assert found.step == 1
    np.testing.assert_allclose(found.swings, [0.0, 8.0])  # the smaller of a rise of 24 and a fall of 8
    assert [set(part) for part in found.groups] == [set(range(25, 30)), set(range(5))]
    np.testing.assert_allclose(found.changes[1][[0, 29]], [-8.0, 24.0])
    np.testing.assert_allclose(found.gradient_cosine, -1.0)
    assert found.share() > 0.99
    for group, models, message in (
        (16, [before, after], "group must be at most half of the 30 rows, got 16"),
        (5, [before], "models must have at least two states"),
    ):
        with pytest.raises(ValueError, match=message):
            opposing_signals(models, x, y, group=group)


# Geometry


def test_alignments_are_those_of_the_centred_kernels() -> None:
    model = two_layer(0).double()
    hidden = model[:2](torch.tensor(X)).detach().numpy()  # type: ignore[index]

    def kernel(values: np.ndarray) -> np.ndarray:
        return centred(values) @ centred(values).T

    def align(a: np.ndarray, b: np.ndarray) -> float:
        return float((kernel(a) * kernel(b)).sum() / np.linalg.norm(kernel(a)) / np.linalg.norm(kernel(b)))

    found = representation_geometry(model, X, Y)
    assert found.layers == ("1",)
    np.testing.assert_allclose(found.inputs, [[align(hidden, X)]])
    np.testing.assert_allclose(found.targets, [[align(hidden, np.eye(3)[Y])]])
    np.testing.assert_allclose(found.baseline, align(X, np.eye(3)[Y]))
    in_place = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)).double()
    before = in_place[0](torch.tensor(X)).detach().numpy()
    found = representation_geometry(in_place, X, Y, layers=["0"])
    np.testing.assert_allclose(found.inputs, [[align(before, X)]])
    few = representation_geometry(model, X[:3], Y[:3])  # kernels are smaller than the features' products
    np.testing.assert_allclose(few.inputs, [[align(hidden[:3], X[:3])]])


def test_a_rotation_keeps_the_geometry_and_a_constant_layer_has_none() -> None:
    rotation = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    model = nn.Sequential(nn.Linear(4, 4), nn.Identity(), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(3.0 * rotation))
        model[0].bias.fill_(-1e6)
    found = representation_geometry(model, X, Y, layers=["0", "2"])
    np.testing.assert_allclose(found.inputs[0, 0], 1.0, atol=1e-8)
    np.testing.assert_allclose(found.targets[0, 0], found.baseline, atol=1e-8)
    assert np.isnan(found.inputs[0, 1])
    for layers, message in (
        (["none"], r"layers must be among those of the model \(0, 1, 2, 3\), got 'none'"),
        ([], "layers must name at least one hidden layer"),
        ("0", "layers must name at least one hidden layer"),
    ):
        with pytest.raises(ValueError, match=message):
            representation_geometry(model, X, Y, layers=layers)
    with pytest.raises(ValueError, match="max_bytes must be at least 768 for the values of 'X', got 700"):
        representation_geometry(model, X, Y, max_bytes=700)


# Input gradients and DiffROAR


def test_input_gradients_are_those_of_finite_differences() -> None:
    model = two_layer(0).double()
    weights = linear()
    np.testing.assert_allclose(input_gradients(weights, X, Y), weights.weight.detach().numpy()[Y])  # type: ignore[union-attr, operator]
    found = input_gradients(model, X, Y, of="loss", max_bytes=2000)
    step = 1e-6 * np.eye(4)[1]

    def losses(x: np.ndarray) -> np.ndarray:
        made = nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(Y), reduction="none")
        return made.detach().numpy()

    np.testing.assert_allclose(found[:, 1], (losses(X + step) - losses(X - step)) / 2e-6, atol=1e-8)


def test_block_digits_hold_the_digit_in_one_half_and_the_same_frame_in_the_other() -> None:
    found = block_digits(3)
    assert 0.4 < found.signal[:, 0, 0].mean() < 0.6
    frames = found.x[~found.signal].reshape(len(found.x), 8, 8)
    assert (frames == frames[0]).all()
    digits = found.x[found.signal].reshape(len(found.x), 8, 8)
    assert len(np.unique(digits, axis=0)) > 0.99 * len(digits)
    assert block_digits(0, null_on_top=1.0).signal[:, 8:].all()
    again = block_digits(3)
    assert all(np.array_equal(getattr(found, name), getattr(again, name)) for name in ("x", "y", "test_signal"))


def test_diffroar_is_positive_where_gradients_mark_what_decides() -> None:
    labels = RNG.integers(0, 2, 300)
    x = np.hstack([RNG.normal(size=(300, 2)) + 3.0 * labels[:, None], RNG.normal(size=(300, 6))])
    torch.manual_seed(0)
    model = train_snapshots(nn.Linear(8, 2), x[:200], labels[:200], SnapshotSettings(epochs=20, rate=0.03)).final
    signal = np.zeros((100, 8), bool)
    signal[:, :2] = True
    ticks: list[tuple[int, int]] = []
    found = input_gradient_roar(
        model,
        torch.tensor(x[:200], requires_grad=True),
        labels[:200],
        x[200:],
        labels[200:],
        build=lambda seed: nn.Linear(8, 2),
        settings=SnapshotSettings(epochs=10, rate=0.03),
        fractions=(0.25,),
        repeats=2,
        signal=signal,
        progress=lambda done, total: ticks.append((done, total)),
    )
    assert found.difference[0] > 0.2
    assert found.signal_share[0] == 1.0
    assert found.signal_part == 0.25
    assert ticks[-1] == (6, 6)
    boosted = GradientBoostedNetworkClassifier(n_units=3, random_state=0).fit(x[:200], labels[:200])
    refitted = input_gradient_roar(boosted, x[:200], labels[:200], x[200:], labels[200:], fractions=[0.25], repeats=1)
    assert refitted.difference[0] > 0.03  # 0.06 to 0.12 over six draws; the mask's shape tells much by itself


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": (0.5, 1.0)}, r"fractions must be above 0 and below 1, got \[0.5, 1.0\]"),
        ({"fractions": ()}, "fractions must be above 0"),
        ({"of": "both"}, "of must be 'logit' or 'loss', got 'both'"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"signal": np.ones((2, 4), bool)}, r"signal must be boolean of shape \(24, 4\)"),
        ({"build": None}, "build must be given for a model that is not an estimator"),
        ({"build": lambda seed: nn.ReLU()}, "build must return a module with parameters"),
        ({"build": 3}, "build must be a function"),
    ],
)
def test_diffroar_refuses_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        input_gradient_roar(linear(), X, Y, X, Y, **{"build": lambda seed: linear(), **options})  # type: ignore[arg-type]


# Snapshots


def test_training_keeps_copies_and_leaves_the_module_and_the_random_numbers_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    settings = SnapshotSettings(epochs=3, batch=10, every="step")
    first, again = (train_snapshots(model, X, Y, settings) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert first.steps.tolist() == list(range(10))
    np.testing.assert_allclose(first.epochs[-1], 3.0)
    assert first.losses[-1] < first.losses[0]
    assert all(torch.equal(a, b) for a, b in zip(first.final.parameters(), again.final.parameters(), strict=True))
    assert all(torch.equal(before[name], value) for name, value in first.models[0].state_dict().items())
    assert not any(part.training for state in first.models for part in state.modules())
    with pytest.raises(TypeError, match="module must be called on rows, got a LayeredNetwork"):
        train_snapshots(LayeredNetwork((4, 3, 3)), X, Y)
    end = train_snapshots(model, X, Y, SnapshotSettings(epochs=3, batch=10, every="end"))
    assert len(end.models) == 1
    assert end.losses[0] == first.losses[-1]
    starts = train_starts(two_layer, X, Y, SnapshotSettings(epochs=1), starts=2)
    assert not torch.equal(next(starts[0].parameters()), next(starts[1].parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch": -1}, "batch must be at least 1"),
        ({"rate": 0.0}, "rate must be greater than 0"),
        ({"optimiser": "lion"}, "optimiser must be 'adam' or 'sgd', got 'lion'"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        ({"every": "day"}, "every must be 'epoch', 'step' or 'end'"),
    ],
)
def test_settings_refuse_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        SnapshotSettings(**options)  # type: ignore[arg-type]
