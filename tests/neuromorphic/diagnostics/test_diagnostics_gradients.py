"""Per-sample gradients: those of a loop over rows, whatever the chunks, on any module, which is left as it was."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from relaxon.neuromorphic.diagnostics import (
    SnapshotSettings,
    el2n,
    grand,
    per_sample_gradients,
    representation_geometry,
    train_snapshots,
)
from relaxon.neuromorphic.diagnostics.gradients import MAX_BYTES, is_sequence_of_linear, measure_moments
from relaxon.neuromorphic.diagnostics.models import as_subject
from relaxon.neuromorphic.diagnostics.subjects import validate_rows
from relaxon.neuromorphic.equilibrium import (
    ConvolutionalNetwork,
    FixedStep,
    Implicit,
    LayeredNetwork,
    Phases,
    gradient,
)

ROWS = 11
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(ROWS, 6)), RNG.integers(0, 3, ROWS)
IMAGES = RNG.normal(size=(ROWS, 1, 4, 4))
DRAWN = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _draw_the_same_in_any_order() -> None:
    RNG.bit_generator.state = DRAWN


class TwoWays(nn.Module):
    """A layer that is used twice, and one whose weights are tied to it: no sequence of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.out(torch.tanh(self.inner(torch.tanh(self.inner(x)))))
        return made


def dense(*parts: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), *parts, nn.Linear(5, 3)).double()


def tied() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(6, 3)).double()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "dense": dense,
    "without bias": lambda: nn.Sequential(nn.Linear(6, 3, bias=False)).double(),
    "nested": lambda: dense(nn.Sequential(nn.Linear(5, 5), nn.GELU())),
    "in place": lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)).double(),
    "normalised": lambda: dense(nn.BatchNorm1d(5)).eval(),
    "layer norm": lambda: dense(nn.LayerNorm(5)),
    "tied": tied,
    "used twice": lambda: TwoWays().double(),
    "convolution": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).double(),
}


def rows_of(name: str) -> np.ndarray:
    return IMAGES if name == "convolution" else X


def looped(model: nn.Module, x: np.ndarray, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], y: object):
    found = []
    for row in range(len(x)):
        value = loss(model(torch.tensor(x[row : row + 1])), torch.as_tensor(y)[row : row + 1])
        parts = torch.autograd.grad(value, [p for p in model.parameters() if p.requires_grad])
        found.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(found)


def whole(model: object, x: np.ndarray, y: object, **options: object) -> torch.Tensor:
    return torch.cat([chunk.flat() for chunk in per_sample_gradients(model, x, y, **options)])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
def test_gradients_and_their_moments_are_those_of_a_loop(name: str) -> None:
    torch.manual_seed(1)
    model, x = MODELS[name](), rows_of(name)
    expected = looped(model, x, nn.functional.cross_entropy, Y)
    torch.testing.assert_close(whole(model, x, Y), expected, rtol=1e-10, atol=1e-12)
    subject = as_subject(model, "auto", Y)
    moments = measure_moments(subject, *validate_rows(subject, x, Y), MAX_BYTES)
    np.testing.assert_allclose(moments.norms, expected.norm(dim=1), rtol=1e-10)
    mean = np.concatenate([part.ravel() for part in moments.means.values()])
    np.testing.assert_allclose(mean, expected.mean(0), atol=1e-12)


def test_only_sequences_whose_layers_come_once_are_taken_as_outer_products() -> None:
    short = {name for name, made in MODELS.items() if is_sequence_of_linear(made())}
    assert short == {"dense", "without bias", "nested"}


@pytest.mark.parametrize("name", ["dense", "normalised", "convolution"])
def test_chunks_change_nothing(name: str) -> None:
    model, x = MODELS[name](), rows_of(name)
    size = 3 * 8 * sum(parameter.numel() for parameter in model.parameters())
    ticks: list[tuple[int, int]] = []
    small = list(
        per_sample_gradients(model, x, Y, max_bytes=2 * size, progress=lambda done, total: ticks.append((done, total)))
    )
    assert [chunk.rows.stop - chunk.rows.start for chunk in small][:5] == [2] * 5
    assert ticks[-1] == (ROWS, ROWS)
    assert len(ticks) == len(small) == 6
    torch.testing.assert_close(torch.cat([chunk.flat() for chunk in small]), whole(model, x, Y), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(grand(model, x, Y, max_bytes=size).scores, grand(model, x, Y).scores, rtol=1e-12)


def test_other_losses_and_one_logit_have_their_own_gradients() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    values, counts, binary = RNG.normal(size=ROWS), RNG.poisson(2.0, ROWS), Y % 2

    def half_square(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return 0.5 * (z[0, 0] - t[0]) ** 2

    def logistic(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(z[0, 0], t[0].double())

    def poisson(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return nn.functional.poisson_nll_loss(z[0, 0], t[0].double())

    torch.testing.assert_close(whole(model, X, values), looped(model, X, half_square, values))
    torch.testing.assert_close(whole(model, X, binary), looped(model, X, logistic, binary))
    torch.testing.assert_close(whole(model, X, counts, loss="poisson"), looped(model, X, poisson, counts))
    with torch.no_grad():
        z = model(torch.tensor(X))[:, 0].numpy()
    np.testing.assert_allclose(el2n(model, X, values).scores, np.abs(z - values))
    np.testing.assert_allclose(el2n(model, X, counts, loss="poisson").scores, np.abs(np.exp(z) - counts))
    np.testing.assert_allclose(el2n(model, X, binary).scores, np.sqrt(2) * np.abs(1 / (1 + np.exp(-z)) - binary))


def test_frozen_parameters_have_no_gradient() -> None:
    model = dense()
    model[0].weight.requires_grad_(False)  # type: ignore[index]
    names = list(next(per_sample_gradients(model, X, Y)).gradients)
    assert names == ["0.bias", "2.weight", "2.bias"]
    expected = looped(model, X, nn.functional.cross_entropy, Y)
    torch.testing.assert_close(whole(model, X, Y), expected)
    np.testing.assert_allclose(grand(model, X, Y).scores, expected.norm(dim=1))


NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "independent feedback": lambda: LayeredNetwork(
        (6, 5, 4, 3), feedback="independent", angle=40.0, dtype=torch.float64
    ),
    "squared loss": lambda: LayeredNetwork((6, 5, 3), loss="squared", dtype=torch.float64),
    "convolution": lambda: ConvolutionalNetwork((1, 4, 4), (2,), 3, dtype=torch.float64),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_a_relaxing_network_are_those_of_implicit_differentiation(name: str) -> None:
    network, x = NETWORKS[name](), rows_of(name)[:4]
    y = np.array([0, 1, 2, 0])
    phases = Phases(FixedStep(5000, tolerance=1e-12))
    found = list(per_sample_gradients(network, x, y))
    for row in range(len(x)):
        alone = gradient(network, torch.tensor(x[row : row + 1]), torch.tensor(y[row : row + 1]), Implicit(), phases)  # type: ignore[arg-type]
        expected = torch.cat([alone.gradients[key].flatten() for key in found[0].gradients])
        assert float(expected.norm()) > 1e-3
        torch.testing.assert_close(found[0].flat()[row], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["dense", "normalised", "tied", "spectral"])
def test_a_model_is_left_as_it_was(name: str) -> None:
    if name == "spectral":
        model: nn.Module = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 3))).double()
    else:
        model = MODELS[name]()
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    whole(model, X, Y)
    grand(model, X, Y)
    el2n(model, X, Y)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes
    assert all(bool((parameter.grad == 1).all()) and parameter.requires_grad for parameter in model.parameters())
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert not any(part._forward_hooks for part in model.modules())


def test_rows_stay_as_they_are_where_the_first_layer_works_in_place() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 3)).double()
    plain = nn.Sequential(nn.ReLU(), model[1])
    x = X.copy()
    for score in (el2n, grand):
        np.testing.assert_allclose(score(model, x, Y).scores, score(plain, x, Y).scores)
    assert representation_geometry(model, x, Y, layers=["1"]).inputs == pytest.approx(
        representation_geometry(plain, x, Y, layers=["1"]).inputs
    )
    states = [train_snapshots(part, x, Y, SnapshotSettings(epochs=2)) for part in (model, plain)]
    np.testing.assert_allclose(states[0].losses, states[1].losses)
    tensor = torch.tensor(x)
    el2n(model, tensor, Y)
    assert np.array_equal(x, X)
    assert torch.equal(tensor, torch.tensor(X))


class Sums(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weight).sum(-1)


@pytest.mark.parametrize(
    ("model", "x", "y", "message"),
    [
        (nn.ReLU(), X, Y, "model must have parameters, got a ReLU without any"),
        (nn.Linear(6, 3).requires_grad_(False), X, Y, "parameters that require gradients"),
        (nn.LazyLinear(3), X, Y, "initialised parameters, got 'weight'"),
        (dense(nn.BatchNorm1d(5)), X, Y, "got '2', a BatchNorm1d in training mode; call model.eval"),
        (dense(nn.BatchNorm1d(5, track_running_stats=False)).eval(), X, Y, "must not normalise by the batch"),
        (dense(nn.Dropout(0.5)), X, Y, "must not be random: got '2', a Dropout in training mode"),
        (dense(), np.where(X > 1.5, np.nan, X), Y, "X must be finite, got"),
        (nn.Linear(6, 3), X * 1e200, Y, "X must fit the torch.float32 of the model"),
        (nn.Linear(6, 1), X, Y * 1e200, "y must fit the torch.float32 of the model"),
        (dense(), X[:, :4], Y, r"X must have rows that the model accepts, got shape \(11, 4\)"),
        (dense(), X[0], Y, r"X must be \(rows, …\)"),
        (dense(), X, Y[:5], r"y must hold one entry for each of 11 rows, got shape \(5,\)"),
        (dense(), X, np.zeros(ROWS, int), "y must have at least two classes, got one class: 0"),
        (dense(), X, Y + 1, "y must have class indices from 0 to 2, as the model has 3 outputs, got 1 to 3"),
        (dense(), X, Y.astype(str), "y must be class indices of an integer dtype"),
        (dense(), X, Y / 2.0, "y must have 3 columns, as the model has outputs, got 1"),
        (Sums().double(), X, Y, r"model must return outputs \(rows, outputs\), got shape \(1,\)"),
        ("a model", X, Y, "model must be a torch module or a fitted estimator"),
        ([], X, Y, "models must hold at least one model"),
    ],
)
def test_what_has_no_scores_is_refused_by_name(model: object, x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        grand(model, x, y)


def test_counts_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="y must be at least 0 for the Poisson loss, got -1"):
        el2n(nn.Linear(6, 1), X, Y - 1.0, loss="poisson")


def test_weights_that_are_not_finite_and_a_bound_too_small_are_refused() -> None:
    model = dense()
    with pytest.raises(ValueError, match="max_bytes must be at least 1272, the size of one row's gradient, got 100"):
        per_sample_gradients(model, X, Y, max_bytes=100)
    with pytest.raises(TypeError, match="max_bytes must be an integer"):
        grand(model, X, Y, max_bytes=1e9)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="loss must be one of auto, cross-entropy, squared, poisson, got 'hinge'"):
        per_sample_gradients(model, X, Y, loss="hinge")
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan  # type: ignore[index]
    with pytest.raises(ValueError, match="finite parameters, got NaN or infinite ones in '0.weight'"):
        el2n(model, X, Y)
