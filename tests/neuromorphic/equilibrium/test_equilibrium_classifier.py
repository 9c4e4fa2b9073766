"""The classifier as scikit-learn sees it."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from relaxon.neuromorphic.checkpoints import Checkpoints
from relaxon.neuromorphic.equilibrium import (
    Alternating,
    Cauchy,
    ContinuousOscillation,
    ConvolutionalNetwork,
    EquilibriumClassifier,
    FixedStep,
    Phases,
    Unrolled,
)
from relaxon.neuromorphic.equilibrium.classifier.storage import load_classifier, save_classifier
from relaxon.neuromorphic.equilibrium.estimators.registry import build_estimator


@parametrize_with_checks([EquilibriumClassifier(hidden_sizes=(8,), epochs=6)])
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    check(estimator)


def test_it_classifies_irises_under_cross_validation():
    x, y = load_iris(return_X_y=True)
    assert cross_val_score(EquilibriumClassifier((16,), epochs=20, random_state=0), x, y).mean() > 0.93


@pytest.mark.parametrize(
    "estimator",
    ["asymmetric-cauchy", "centred", "one-sided", "implicit", "unrolled", "recurrent-backprop", Cauchy(3, 0.2)],
)
def test_every_named_estimator_trains(estimator):
    x, y = load_iris(return_X_y=True)
    found = EquilibriumClassifier(
        (10, 8), estimator=estimator, feedback="independent", angle=60.0, homeostasis=1.0, epochs=15, random_state=0
    ).fit(x, y)
    assert found.score(x, y) > 0.9
    share = found.predict_proba(x)
    np.testing.assert_allclose(share.sum(1), 1)
    assert (share.argmax(1) == found.predict(x)).all()


def test_a_random_state_decides_the_probabilities():
    x, y = load_iris(return_X_y=True)
    runs = [EquilibriumClassifier((8,), epochs=3, noise=0.01, random_state=s).fit(x, y) for s in (1, 1, 2)]
    one, two, other = (run.predict_proba(x) for run in runs)
    assert (one == two).all()
    assert not (one == other).all()


@pytest.mark.parametrize(
    ("name", "steps", "kind"),
    [
        ("continuous", 50, ContinuousOscillation(0.2, 50)),
        ("unrolled", 9, Unrolled(9)),
        ("continuous", None, ContinuousOscillation(0.2)),
    ],
)
def test_an_estimator_s_name_and_numbers_make_it(name, steps, kind):
    assert build_estimator(name, 6, 0.2, steps) == kind


def images(count=150):
    """Two classes of noisy images, two colours each, told apart by where they are bright."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % 2
    x = rng.normal(0.0, 0.3, (count, 2, 4, 4))
    x[y == 0, 0, :2] += 1.0
    x[y == 1, 1, 2:] += 1.0
    return x.reshape(count, -1) * 50.0 + 7.0, y


def test_images_train_a_convolutional_classifier_that_is_stored(tmp_path):
    x, y = images()
    found = EquilibriumClassifier(image=(2, 4, 4), channels=(3,), epochs=8, random_state=0).fit(x, y)
    assert isinstance(found.network_, ConvolutionalNetwork)
    assert found.score(x, y) > 0.95
    # One location for each colour, not for each pixel.
    assert len(set(found.mean_.tolist())) == 2
    save_classifier(found, tmp_path / "model")
    again = load_classifier(tmp_path / "model")
    assert (again.predict_proba(x) == found.predict_proba(x)).all()
    assert again.get_params() == found.get_params()


def test_a_run_from_before_convolutional_networks_had_bounds_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    x, y = images(60)
    options = {"image": (2, 4, 4), "channels": (3,), "epochs": 3, "random_state": 0}
    before = EquilibriumClassifier(**options, contraction=None, readout_bound=None)
    free = FixedStep(300, tolerance=1e-4)
    monkeypatch.setattr(before, "_choose_phases", lambda: Phases(free, FixedStep(100, tolerance=1e-3)))
    whole = before.fit(x, y).predict_proba(x)
    with pytest.warns(ConvergenceWarning, match="ended early"):
        before.fit(x, y, watcher=lambda step: step.step == 3, checkpoints=Checkpoints(tmp_path, 0.0))
    after = EquilibriumClassifier(**options).fit(x, y, checkpoints=Checkpoints(tmp_path, 0.0))
    assert (after.predict_proba(x) == whole).all()


def test_a_run_begun_with_tighter_default_phases_goes_on_with_them_to_the_same_bits(tmp_path, monkeypatch):
    x, y = images(60)
    before, after = (EquilibriumClassifier((6, 5), epochs=3, random_state=0) for _ in range(2))
    tight = Phases(Alternating(100, tolerance=1e-5), Alternating(60, tolerance=1e-4))
    default = after.fit(x, y).predict_proba(x)
    monkeypatch.setattr(before, "_choose_phases", lambda: tight)
    whole = before.fit(x, y).predict_proba(x)
    assert (whole != default).any()
    with pytest.warns(ConvergenceWarning, match="ended early"):
        before.fit(x, y, watcher=lambda step: step.step == 3, checkpoints=Checkpoints(tmp_path, 0.0))
    assert (after.fit(x, y, checkpoints=Checkpoints(tmp_path, 0.0)).predict_proba(x) == whole).all()


@pytest.mark.parametrize("image", [None, (2, 4), (1, 4, 4), (2, 2, 2)])
def test_an_image_that_the_rows_do_not_hold_is_refused(image):
    x, y = images(20)
    with pytest.raises(ValueError, match="^image must"):
        EquilibriumClassifier(image=image, channels=(3,)).fit(x, y)


def test_an_unknown_estimator_is_refused():
    x, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="estimator must be an Estimator or one of"):
        EquilibriumClassifier(estimator="backprop").fit(x, y)


def test_scaling_a_feature_changes_nothing():
    x, y = load_iris(return_X_y=True)
    one = EquilibriumClassifier((8,), epochs=3, random_state=0).fit(x, y).predict_proba(x)
    scale = np.array([1e-6, 1.0, 1e6, 10.0])
    other = EquilibriumClassifier((8,), epochs=3, random_state=0).fit(x * scale, y).predict_proba(x * scale)
    np.testing.assert_allclose(one, other, rtol=1e-3)


def test_string_labels_come_back():
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    found = EquilibriumClassifier((8,), random_state=0).fit(x, names)
    assert set(found.predict(x)) <= set(names)
