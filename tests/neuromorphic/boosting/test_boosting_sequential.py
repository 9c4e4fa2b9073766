"""Sequential training of a given torch module: monotone, frozen below, cut anywhere, the module untouched."""

import copy
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_friedman1

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from relaxon.neuromorphic.boosting import SequentiallyTrained, SequentialSettings, train_sequentially  # noqa: E402

X, Y = make_friedman1(400, 6, noise=0.3, random_state=1)
X = (X - X.mean(0)) / X.std(0)
QUICK = {"epochs": 15, "batch": 64, "rate": 5e-3}


def dense(inputs: int = 6, outputs: int = 1) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8), nn.Tanh(),
        nn.Linear(8, outputs),
    )  # fmt: skip


def outputs(model: SequentiallyTrained, x: Any) -> Any:
    with torch.no_grad():
        return model(torch.as_tensor(np.asarray(x), dtype=torch.float32)).numpy()


def test_each_layer_lowers_the_loss_and_the_model_is_what_was_measured() -> None:
    model = train_sequentially(dense(), X, Y, SequentialSettings(**QUICK))
    assert model.stages == 3
    assert (np.diff(model.losses) < 0.0).all()
    for stages in range(4):
        error = outputs(model.truncated(stages), X)[:, 0] - Y
        assert 0.5 * np.mean(error**2) == pytest.approx(model.losses[stages], rel=1e-4)
    assert model.losses[-1] < 0.3 * model.losses[0]


def test_the_given_module_is_untouched_and_the_same_seed_gives_the_same_bits() -> None:
    module = dense()
    before = copy.deepcopy(module.state_dict())
    state = torch.get_rng_state()
    models = [train_sequentially(module, X, Y, SequentialSettings(**QUICK)) for _ in range(2)]
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(outputs(models[0], X), outputs(models[1], X))


def test_layers_below_stay_as_their_stage_left_them() -> None:
    kept: list[Any] = []
    model = train_sequentially(dense(), X, Y, SequentialSettings(**QUICK))
    shorter = train_sequentially(dense(), X, Y, SequentialSettings(**QUICK), lambda p: p.stage == 1)
    assert shorter.stages == 1
    kept.append(shorter)
    for one, other in zip(kept[0].blocks[0].parameters(), model.blocks[0].parameters(), strict=True):
        assert torch.equal(one, other)
    np.testing.assert_array_equal(outputs(shorter, X), outputs(model.truncated(1), X))


@pytest.mark.parametrize("classes", [2, 3])
def test_logits_of_a_convolutional_module(classes: int) -> None:
    digits, labels = load_digits(n_class=classes, return_X_y=True)
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(64, 1 if classes == 2 else classes),
    )  # fmt: skip
    images = digits.reshape(-1, 1, 8, 8) / 16.0
    model = train_sequentially(module, images, labels, SequentialSettings(loss="log_loss", **QUICK))
    logits = outputs(model, images)
    chosen = (logits[:, 0] > 0) if classes == 2 else logits.argmax(1)
    assert np.mean(chosen == labels) > 0.95
    if classes == 2:
        loss = np.mean(np.logaddexp(0.0, -(2 * labels - 1) * logits[:, 0]))
        assert loss == pytest.approx(model.losses[-1], rel=1e-3)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Sequential(nn.Linear(6, 1)), "at least two layers"),
        (nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 1), nn.Sigmoid()), "end with its Linear"),
        (nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 2)), "an output for each"),
    ],
)
def test_a_module_that_cannot_be_boosted_is_refused(module: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train_sequentially(module, X, Y)


def test_data_and_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="X must be finite"):
        train_sequentially(dense(), np.full((5, 6), np.nan), np.zeros(5))
    with pytest.raises(ValueError, match="y must be"):
        train_sequentially(dense(), X, Y[:-1])
    with pytest.raises(TypeError, match="integer labels"):
        train_sequentially(dense(), X, Y, SequentialSettings(loss="log_loss"))
    with pytest.raises(ValueError, match="every label"):
        train_sequentially(dense(), X, np.full(400, 2), SequentialSettings(loss="log_loss"))
    with pytest.raises(ValueError, match="learning_rate"):
        SequentialSettings(learning_rate=2.0)
    with pytest.raises(ValueError, match="loss must be"):
        SequentialSettings(loss="hinge")  # type: ignore[arg-type]


def test_a_constant_target_stays_constant() -> None:
    model = train_sequentially(dense(), X, np.full(400, 3.0), SequentialSettings(**QUICK))
    np.testing.assert_allclose(outputs(model, X), 3.0, atol=1e-6)
