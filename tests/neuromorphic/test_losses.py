"""Comp-sum losses: their limits, their gradients, the bound of the adversarial form, and how trainers use them."""

import math

import numpy as np
import pytest
import torch

from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier
from relaxon.neuromorphic.boosting.networks.model_kernels import find_sums_along
from relaxon.neuromorphic.boosting.training.losses import BinaryLogLoss, CompSumBoostingLoss, LogLoss
from relaxon.neuromorphic.equilibrium import (
    Cauchy,
    ConvolutionalNetwork,
    EquilibriumClassifier,
    Implicit,
    LayeredNetwork,
    Phases,
    gradient,
    load_network,
    save_network,
)
from relaxon.neuromorphic.losses import (
    CompSumLoss,
    SmoothAdversarialCompSumLoss,
    calibrated_scale,
    comp_sum,
    comp_sum_weight,
)

TAUS = (0.3, 1.0, 1.5, 2.0, 3.0)


def logits_and_target(classes=4, rows=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(rows, classes, dtype=torch.float64, generator=generator)
    return z, torch.arange(rows) % classes


def test_tau_one_is_cross_entropy_and_nearby_taus_tend_to_it():
    z, y = logits_and_target()
    reference = torch.nn.functional.cross_entropy(z, y)
    assert torch.allclose(CompSumLoss(1.0)(z, y), reference, rtol=1e-14)
    assert torch.allclose(CompSumLoss(1 + 1e-9)(z, y), reference, rtol=1e-8)


def test_known_members_of_the_family():
    z, y = logits_and_target()
    p = torch.softmax(z, 1)[torch.arange(len(y)), y]
    u = 1 / p - 1
    none = {tau: CompSumLoss(tau, "none")(z, y) for tau in (1e-12, 0.5, 1.7, 2.0)}
    assert torch.allclose(none[1e-12], u, rtol=1e-9)  # the sum-exponential loss
    assert torch.allclose(none[0.5], 2 * ((1 + u).sqrt() - 1), rtol=1e-12)
    assert torch.allclose(none[1.7], (1 - p**0.7) / 0.7, rtol=1e-12)  # generalised cross-entropy, q = τ − 1
    assert torch.allclose(none[2.0], 1 - p, rtol=1e-12)  # mean absolute error


@pytest.mark.parametrize("tau", TAUS)
def test_gradient_against_autograd_and_finite_differences(tau):
    z, y = logits_and_target()
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda a: CompSumLoss(tau, "sum")(a, y), (z,))
    hot = torch.nn.functional.one_hot(y, 4).double()
    (slope,) = torch.autograd.grad(comp_sum(z, hot, tau).sum(), z)
    with torch.no_grad():
        assert torch.allclose(slope, comp_sum_weight(z, hot, tau) * (torch.softmax(z, 1) - hot), rtol=1e-10)


def test_small_losses_keep_their_digits():
    z = torch.tensor([[20.0, 0.0]], dtype=torch.float64)
    u = math.exp(-20)
    for tau in (0.5, 1.5):
        assert float(CompSumLoss(tau)(z, torch.tensor([0]))) == pytest.approx(u, rel=1e-6)


def test_the_smooth_adversarial_loss_bounds_the_adversarial_margin_loss():
    generator = torch.Generator().manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    x = torch.randn(20, 5, dtype=torch.float64, generator=generator)
    y = torch.randint(3, (20,), generator=generator)
    hot, rho, tau, radius = torch.nn.functional.one_hot(y, 3).double(), 0.7, 1.3, 0.2
    loss = SmoothAdversarialCompSumLoss(tau, rho=rho, radius=radius, steps=20)
    whole = float(loss(model, x, y, torch.Generator().manual_seed(2)).detach())
    with torch.no_grad():
        moved = loss.perturb(model, x, y, torch.Generator().manual_seed(2))
        assert float((moved - x).abs().max()) <= radius + 1e-12
        z = model(moved)
        margin = (z * hot).sum(1, keepdim=True) - z
        hinge = (1 - margin / rho).clamp(0, 1) * (1 - hot)
        adversarial = float(((1 + hinge.sum(1)) ** (1 - tau) - 1).mean() / (1 - tau))
        natural = float(CompSumLoss(tau)(model(x) / rho, y))
        # The ascent finds more than a random point of the box does.
        start = x + radius * (2 * torch.rand(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2)) - 1)
        change = [((model(a) - model(x)).pow(2).sum()).item() for a in (start, moved)]
    assert whole >= adversarial
    assert whole > natural
    assert change[1] > 1.2 * change[0]


def test_the_smooth_adversarial_loss_has_the_gradient_of_both_its_terms():
    model = torch.nn.Linear(3, 3).double()
    x, y = (
        torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 1, 2, 0]),
    )
    loss = SmoothAdversarialCompSumLoss(1.0, radius=0.3, nu=0.0)
    (natural,) = torch.autograd.grad(loss(model, x, y, torch.Generator().manual_seed(0)), model.weight)
    (reference,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(x), y), model.weight)
    assert torch.allclose(natural, reference)
    loss = SmoothAdversarialCompSumLoss(1.0, radius=0.3, nu=2.0)
    (robust,) = torch.autograd.grad(loss(model, x, y, torch.Generator().manual_seed(0)), model.weight)
    assert float((robust - natural).norm()) > 0.1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CompSumLoss(0.0), "tau must be greater than 0"),
        (lambda: CompSumLoss(float("nan")), "tau must be finite"),
        (lambda: CompSumLoss("1"), "tau must be a number"),
        (lambda: CompSumLoss(1.0, "median"), "reduction must be"),
        (lambda: SmoothAdversarialCompSumLoss(radius=0.0), "radius must be greater"),
        (lambda: SmoothAdversarialCompSumLoss(rho=-1.0), "rho must be greater"),
        (lambda: calibrated_scale(2.0), "tau must be less than 2"),
        (lambda: LayeredNetwork((3, 4, 2), loss="comp-sum", tau=2.5), "tau must be less than 2"),
        (lambda: LayeredNetwork((3, 4, 2), tau=1.5), "tau must be 1 unless loss is 'comp-sum'"),
        (lambda: LayeredNetwork((3, 4, 2), loss="hinge"), "loss must be"),
        (lambda: ConvolutionalNetwork((1, 4, 4), (2,), 3, loss="squared"), "loss must be"),
        (lambda: EquilibriumClassifier(loss="squared").check_parameters(), "loss must be"),
        (lambda: GradientBoostedNetworkClassifier(loss="comp-sum", tau=2.0).check_parameters(), "tau must be"),
        (lambda: GradientBoostedNetworkClassifier(tau=1.5).check_parameters(), "tau must be 1 unless"),
        (
            lambda: GradientBoostedNetworkClassifier(loss="comp-sum", newton="published").check_parameters(),
            "newton must be 'guarded'",
        ),
    ],
)
def test_refusals_name_the_argument(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_bad_logits_and_targets_are_refused():
    loss = CompSumLoss(1.5)
    z, y = logits_and_target()
    for bad, words in (
        ((z[:, :1], y), "logits must be"),
        ((z, y.double()), "target must be class indices"),
        ((z, y[:2]), "target must be"),
        ((z, y + 1), "target must be between 0 and 3"),
        ((z * math.nan, y), "NaN"),
        ((z * math.inf, y), r"logits must not hold NaN or \+inf"),
        ((z.numpy(), y), "logits must be a torch tensor"),
        ((z, y.tolist()), "target must be a torch tensor"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            loss(*bad)


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.5])
def test_a_class_that_is_ruled_out_counts_nothing(tau):
    z, y = logits_and_target()
    ruled_out = torch.cat([z.detach(), torch.full((len(z), 1), -math.inf, dtype=z.dtype)], 1).requires_grad_()
    loss = CompSumLoss(tau)(ruled_out, y)
    torch.testing.assert_close(loss, CompSumLoss(tau)(z, y), check_dtype=False)
    (slope,) = torch.autograd.grad(loss, ruled_out)
    assert torch.isfinite(slope).all()
    assert not slope[:, -1].any()


# ---- equilibrium networks ------------------------------------------------------------------------------------------


def made(kind):
    if kind == "layered":
        return LayeredNetwork((4, 6, 5, 3), loss="comp-sum", tau=1.6, dtype=torch.float64), (7, 4)
    return ConvolutionalNetwork((1, 4, 4), (3,), 3, loss="comp-sum", tau=1.6, dtype=torch.float64), (7, 1, 4, 4)


@pytest.mark.parametrize("kind", ["layered", "convolutional"])
def test_contours_measure_the_gradient_of_the_comp_sum_loss(kind):
    network, shape = made(kind)
    x = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.arange(7) % 3
    phases = Phases()
    exact = gradient(network, x, y, Implicit(), phases)
    measured = gradient(network, x, y, Cauchy(8, 0.2), phases)
    for name, value in exact.gradients.items():
        assert torch.allclose(measured.gradients[name], value, atol=1e-6), name
    # Along a direction in the readout and one in the input weights, by finite differences of the loss itself.
    for name in ("weights.0", "biases.0"):
        parameter = dict(network.named_parameters())[name]
        with torch.no_grad():
            losses = []
            for step in (1e-5, -2e-5):
                parameter.view(-1)[1] += step
                losses.append(gradient(network, x, y, Implicit(), phases).loss)
            parameter.view(-1)[1] += 1e-5
        slope = (losses[0] - losses[1]) / 2e-5
        assert float(exact.gradients[name].view(-1)[1]) == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_a_comp_sum_network_is_stored_with_its_tau(tmp_path):
    for kind in ("layered", "convolutional"):
        network, _ = made(kind)
        save_network(network, tmp_path / kind)
        again, _ = load_network(tmp_path / kind)
        assert (again.loss_name, again.tau) == ("comp-sum", 1.6)


# ---- boosting --------------------------------------------------------------------------------------------------


def boosting_case(outputs):
    rng = np.random.default_rng(0)
    F = rng.normal(size=(outputs, 7))
    labels = np.arange(7) % max(2, outputs)
    y = 2.0 * labels[None] - 1.0 if outputs == 1 else (labels == np.arange(outputs)[:, None]).astype(float)
    return y, F, np.full(7, 1 / 7)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("tau", [0.4, 1.0, 1.7])
def test_boosted_residual_and_curvature_against_finite_differences(outputs, tau):
    y, F, w = boosting_case(outputs)
    loss, step = CompSumBoostingLoss(tau, outputs), 1e-4
    residual, curvature = loss.residual(y, F), loss.curvature(y, F)
    for k in range(outputs):
        for i in range(3):
            values = []
            for move in (-step, 0.0, step):
                moved = F.copy()
                moved[k, i] += move
                values.append(loss.values(y, moved, w)[0] / w[i])
            assert residual[k, i] == pytest.approx(-(values[2] - values[0]) / (2 * step), rel=1e-6, abs=1e-9)
            assert curvature[k, i] == pytest.approx((values[2] - 2 * values[1] + values[0]) / step**2, abs=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_boosted_with_tau_one_is_the_log_loss(outputs):
    y, F, w = boosting_case(outputs)
    ours, theirs = CompSumBoostingLoss(1.0, outputs), BinaryLogLoss() if outputs == 1 else LogLoss()
    assert (ours.gain, ours.radius) == (theirs.gain, theirs.radius)
    f = np.random.default_rng(1).normal(size=F.shape)
    r = theirs.residual(y, F)
    for name, args in (("initial", (y, w)), ("values", (y, F, w)), ("residual", (y, F))):
        np.testing.assert_allclose(getattr(ours, name)(*args), getattr(theirs, name)(*args), rtol=1e-12)
    steps = [loss.guarded_step(y, F, r, f, w, *find_sums_along(r, f, w)[:2]) for loss in (ours, theirs)]
    np.testing.assert_allclose(*steps, rtol=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_best_constant_gives_the_classes_shares_as_probabilities(classes):
    rng, tau = np.random.default_rng(0), 1.4
    labels = rng.permutation(np.repeat(np.arange(classes), [30, 60, 10][:classes]))
    outputs = 1 if classes == 2 else classes
    y = 2.0 * labels[None] - 1.0 if outputs == 1 else (labels == np.arange(outputs)[:, None]).astype(float)
    w = np.full(len(labels), 1 / len(labels))
    loss = CompSumBoostingLoss(tau, outputs)
    F = np.tile(loss.initial(y, w)[:, None], (1, len(labels)))
    # It is the minimum: the residuals cancel; and with the gain the softmax gives the shares.
    np.testing.assert_allclose(loss.residual(y, F) @ w, 0.0, atol=1e-14)
    raw = loss.gain * F[:, 0]
    shares = 1 / (1 + np.exp(-raw)) if outputs == 1 else np.exp(raw) / np.exp(raw).sum()
    np.testing.assert_allclose(shares[-1], (labels == classes - 1).mean(), rtol=1e-12)


def test_training_lowers_the_comp_sum_loss_and_counts_flipped_labels_less():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    y = (x[:, 0] > 0).astype(int)
    flipped = y.copy()
    flipped[:45] = 1 - flipped[:45]
    weights = {}
    for tau in (1.0, 1.8):
        model = GradientBoostedNetworkClassifier(6, loss="comp-sum", tau=tau, random_state=0).fit(x, flipped)
        assert (np.diff(model.train_loss_) <= 0).all()
        assert model.score(x, y) > 0.9
        # How much the rows with a false label pull, relative to the others.
        loss, F = CompSumBoostingLoss(tau, 1), model.decision_function(x)[None] / model.network_.gain
        pull = np.abs(loss.residual(2.0 * flipped[None] - 1.0, F))[0]
        weights[tau] = pull[:45].mean() / pull[45:].mean()
    assert weights[1.8] < 0.7 * weights[1.0]
    again = GradientBoostedNetworkClassifier(6, loss="comp-sum", tau=1.8, random_state=0).fit(x, flipped)
    assert np.array_equal(again.decision_function(x), model.decision_function(x))
