"""Gradients measured from nudged equilibria: accuracy, orders, and verdicts that never call a wrong one right."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from digits_network import EXACT, asymmetric, network  # noqa: E402

from relaxon.neuromorphic.equilibrium import (  # noqa: E402
    ACTIVATIONS,
    Alternating,
    Anderson,
    AsymmetricCauchy,
    Cauchy,
    Centred,
    ContinuousOscillation,
    ConvolutionalNetwork,
    EnergyNetwork,
    FixedStep,
    HopfieldPotential,
    Implicit,
    LayeredNetwork,
    Network,
    OneSided,
    Phases,
    RecurrentBackprop,
    Unrolled,
    VectorField,
    Verdict,
    compare_gradients,
    gradient,
    predict,
)
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import largest  # noqa: E402


def errors(net, batch, estimators, phases=EXACT, **options):
    found = compare_gradients(net, batch, estimators, phases=phases, reference=Implicit(1e-14), **options)
    assert found.reference.verdict is Verdict.OK
    return [row.relative_error for row in found.rows]


@pytest.mark.parametrize("estimator", [Cauchy, AsymmetricCauchy])
def test_cauchy_reaches_the_stated_accuracy_where_weights_are_tied(digits, estimator):
    found = errors(network(), digits, [estimator(n, 0.5) for n in (2, 4, 6, 12)])
    for error, limit in zip(found, (1e-2, 2e-4, 1e-6, 1e-11), strict=True):
        assert error <= limit


def test_asymmetric_cauchy_reaches_the_stated_accuracy_at_a_right_angle(digits):
    found = errors(asymmetric(), digits, [AsymmetricCauchy(n, 0.5) for n in (2, 4, 6, 12)])
    for error, limit in zip(found, (5e-2, 5e-3, 1e-4, 5e-8), strict=True):
        assert error <= limit


def test_plain_cauchy_stays_wrong_at_a_right_angle_however_many_points(digits):
    few, many = errors(asymmetric(), digits, [Cauchy(4, 0.5), Cauchy(16, 0.5)])
    assert few > 0.1
    assert many == pytest.approx(few, rel=1e-2)


def test_the_asymmetry_that_biases_an_estimate_is_a_value_of_the_result(digits):
    x, y = digits
    found = [gradient(net, x, y, Cauchy(4, 0.5)) for net in (network(), asymmetric(20.0), asymmetric(90.0))]
    assert found[0].asymmetry < 1e-12
    assert 0.1 < found[1].asymmetry < found[2].asymmetry
    assert gradient(asymmetric(), x, y, AsymmetricCauchy(4, 0.5)).asymmetry is None


def test_a_gradient_is_no_zero_under_the_caller_s_no_grad(digits):
    x, y = digits
    for estimator in (Cauchy(4, 0.5), Unrolled(60)):
        with torch.no_grad():
            inside = gradient(network(), x, y, estimator)
        assert torch.equal(flat(inside.gradients), flat(gradient(network(), x, y, estimator).gradients))


def test_the_error_falls_as_the_radius_to_the_number_of_points(digits):
    net = network()
    for n in (2, 4):
        coarse, fine = errors(net, digits, [Cauchy(n, 0.2), Cauchy(n, 0.1)])
        assert math.log2(coarse / fine) == pytest.approx(n, abs=0.35)
    one, two = errors(net, digits, [OneSided(0.02), OneSided(0.01)])
    assert math.log2(one / two) == pytest.approx(1, abs=0.1)
    assert errors(net, digits, [Centred(0.1)]) == pytest.approx(errors(net, digits, [Cauchy(2, 0.1)]), rel=1e-6)


def flat(gradients):
    return torch.cat([value.flatten() for value in gradients.values()])


@pytest.mark.parametrize("make", [network, asymmetric], ids=["tied", "independent"])
@pytest.mark.parametrize("loss", ["cross-entropy", "squared"])
def test_the_exact_gradient_is_that_of_differences_of_the_loss(digits, make, loss):
    net = make(loss=loss)
    x, y = digits
    exact = gradient(net, x, y, Implicit(1e-14), EXACT)
    generator = torch.Generator().manual_seed(3)
    direction = {k: torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in exact.gradients.items()}
    h = 1e-5

    def loss_at(shift):
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter += shift * direction[name]
        return gradient(net, x, y, OneSided(0.5), EXACT).loss

    slope = (loss_at(h) - loss_at(-2 * h)) / (2 * h)
    expected = float(sum((exact.gradients[name] * direction[name]).sum() for name in direction))
    assert slope == pytest.approx(expected, rel=1e-6)


def test_references_agree(digits):
    for net in (network(), asymmetric()):
        found = errors(net, digits, [Unrolled(200), RecurrentBackprop()])
        assert max(found) < 1e-12


class Sine(torch.nn.Module):
    def __init__(self, units=6, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(torch.randn(units, units, generator=generator, dtype=torch.float64) * 0.25)

    def forward(self, u, x):
        return x - u + torch.sin(u @ self.weight.to(u.dtype).T)


def squared(u, y):
    return 0.5 * (u - y).square().sum(-1)


def any_network(name):
    generator = torch.Generator().manual_seed(5)
    if name == "convolutional":
        net = ConvolutionalNetwork(
            (1, 8, 8), (4, 6), 10, feedback="independent", angle=70.0, dtype=torch.float64, kernel=3
        )
        return net, torch.rand(5, 1, 8, 8, generator=generator, dtype=torch.float64), torch.arange(5), 0.4
    if name == "energy":
        net = EnergyNetwork(HopfieldPotential(7, 9, dtype=torch.float64), 9, lambda r, y: squared(r[..., :3], y))
        x = torch.rand(5, 7, generator=generator, dtype=torch.float64)
        return net, x, torch.rand(5, 3, generator=generator, dtype=torch.float64), 0.1
    net = VectorField(Sine(), 6, squared)
    x = torch.rand(5, 6, generator=generator, dtype=torch.float64)
    return net, x, torch.zeros(5, 6, dtype=torch.float64), 0.15


@pytest.mark.parametrize("name", ["convolutional", "energy", "vector field"])
def test_every_estimator_works_on_every_network(name):
    net, x, y, radius = any_network(name)
    exact = [AsymmetricCauchy(16, radius), Unrolled(300), RecurrentBackprop()]
    found = errors(net, (x, y), exact, Phases(FixedStep(3000, 1.0, 1e-13)))
    assert max(found) < 1e-6
    biased = [OneSided(radius), Centred(radius), ContinuousOscillation(radius, 200), Cauchy(16, radius)]
    if name == "energy":
        assert errors(net, (x, y), biased)[-1] < 1e-6
    for row in compare_gradients(net, (x, y), biased, phases=EXACT).rows:
        assert row.cosine > 0.7
        assert math.isfinite(row.relative_error)


def test_half_the_contour_says_what_the_whole_contour_says(digits):
    """Conjugate symmetry, for odd and even numbers of points, against all N points relaxed by hand."""
    net, (x, y) = network(), digits
    _, encoded = net.validate(x, y)
    with torch.no_grad():
        drive = net.drive(x)
        free = EXACT.free.relax(lambda u: net.field(u, drive), net.start(drive)).state
        for n in (3, 5, 6):
            total = torch.zeros_like(free).to(torch.complex128)
            mean = torch.zeros_like(total)
            for t in range(n):
                beta = 0.4 * complex(np.exp(2j * np.pi * t / n))

                def field(u, beta=beta):
                    r = net.activation(u)
                    return net.pull(r, drive) - u - beta * net.nudge(r, encoded)

                state = EXACT.free.relax(field, free.to(torch.complex128)).state
                total += net.activation(state) / beta / n
                mean += (net.activation(state) - net.activation(free)) / n
            assert float(total.imag.abs().max()) < 1e-12
            slope = total.real
            pull = net.pull(net.activation(free), net.drive(x))
            with torch.enable_grad():
                pull = net.pull(net.activation(free), net.drive(x))
                bias = torch.autograd.grad((pull * -slope).sum() / len(x), [net.biases[1]])[0]
            measured = gradient(net, x, y, Cauchy(n, 0.4), EXACT)
            assert torch.allclose(bias, measured.gradients["biases.1"], rtol=1e-9, atol=1e-14)
            assert measured.truncation == pytest.approx(float(mean.norm()) / (0.4 * float(slope.norm())), rel=1e-6)


def test_anderson_reaches_the_same_equilibrium_in_fewer_steps(digits):
    net = network(gain=0.9)
    x, _ = digits
    plain_scores, plain = predict(net, x, Phases(FixedStep(3000, 0.5, 1e-12)))
    fast_scores, fast = predict(net, x, Phases(Anderson(300, 0.5, 1e-12)))
    assert plain.outcome.name == fast.outcome.name == "CONVERGED"
    assert torch.allclose(plain_scores, fast_scores, atol=1e-10)
    assert fast.steps < plain.steps / 2
    nudged = gradient(net, x, digits[1], Cauchy(6, 0.1), Phases(Anderson(300, 0.5, 1e-12)))
    assert nudged.nudged.outcome.name == "CONVERGED"


@pytest.mark.parametrize("loss", ["cross-entropy", "squared"])
@pytest.mark.parametrize("sizes", [(64, 12, 10), (64, 12, 9, 10), (64, 12, 9, 8, 7, 10)])
def test_layers_in_turn_reach_the_equilibrium_of_equal_steps(digits, loss, sizes):
    """Free and nudged, real and complex, tied and not, with and without the correction: the same gradient."""
    x, y = digits
    turns = Phases(Alternating(500, tolerance=1e-13))
    for options in ({}, {"feedback": "independent", "angle": 60.0}):
        net = LayeredNetwork(sizes, loss=loss, dtype=torch.float64, **options)
        for estimator in (Cauchy(1, 0.3), Cauchy(2, 0.3), AsymmetricCauchy(5, 0.3)):
            ours, plain = gradient(net, x, y, estimator, turns), gradient(net, x, y, estimator, EXACT)
            assert torch.allclose(flat(ours.gradients), flat(plain.gradients), rtol=1e-9, atol=1e-12)
            assert ours.free.outcome.name == ours.nudged.outcome.name == "CONVERGED"
            assert ours.free.steps < plain.free.steps / 2
            # The state returned is a step beyond the one whose residual was measured.
            assert largest(net.field(ours.free.state, net.drive(x))) <= ours.free.residual + 2e-15


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_real_points_one_after_the_other_say_what_a_batch_of_them_says(digits, monkeypatch, n):
    x, y = digits
    net, phases = asymmetric(50.0), Phases(Alternating(500, tolerance=1e-13))
    for estimator in (Cauchy(n, 0.4), AsymmetricCauchy(n, 0.4)):
        batch = gradient(net, x, y, estimator, phases)
        monkeypatch.setattr("relaxon.neuromorphic.equilibrium.estimators.contour.WORTH_APART", 0)
        apart = gradient(net, x, y, estimator, phases)
        monkeypatch.undo()
        assert torch.allclose(flat(apart.gradients), flat(batch.gradients), rtol=1e-9, atol=1e-12)
        if n > 1:
            assert apart.truncation == pytest.approx(batch.truncation, rel=1e-6)
        # The mirror image is nearer to the second point than the free state is.
        assert apart.evaluations < batch.evaluations or n in (1, 5)


@pytest.mark.parametrize("activation", ["tanh", "dsilu", "sigmoid"])
def test_a_state_in_planes_is_the_complex_state(activation):
    z = torch.complex(*torch.randn(2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    chosen = ACTIVATIONS[activation]
    inner = chosen.slope * z + chosen.offset
    rates = torch.empty(10, 7, dtype=torch.float64)
    chosen.inner_planes(torch.cat([inner.real, inner.imag]), rates)
    assert torch.allclose(torch.complex(*rates.chunk(2)), chosen(z), rtol=1e-14)


def test_tied_layers_in_turn_rest_where_equal_steps_swing_for_ever():
    """Strong inhibition: equal steps are a cycle of two states, layers in turn lower the energy."""
    net = LayeredNetwork((4, 6, 6, 2), dtype=torch.float64)
    with torch.no_grad():
        net.weights[1].copy_(-3 * torch.eye(6, dtype=torch.float64))
        for bias in net.biases[:2]:
            bias.fill_(2.0)
        net.weights[0].zero_()
    x = torch.ones(3, 4, dtype=torch.float64)
    assert predict(net, x, Phases(FixedStep(2000, tolerance=1e-9)))[1].outcome.name == "MAX_STEPS"
    assert predict(net, x, Phases(Alternating(2000, tolerance=1e-9)))[1].outcome.name == "CONVERGED"


def test_layers_in_turn_are_equal_steps_for_other_networks_and_with_noise(digits):
    net, x, y, radius = any_network("energy")
    one, two = (gradient(net, x, y, Cauchy(2, radius), Phases(r)) for r in (Alternating(50), FixedStep(100)))
    assert torch.equal(flat(one.gradients), flat(two.gradients))
    phases = [Phases(r, noise=0.01) for r in (Alternating(10), FixedStep(20))]
    seeds = [torch.Generator().manual_seed(0) for _ in phases]
    noisy = [gradient(network(), *digits, Cauchy(2, 0.5), p, g) for p, g in zip(phases, seeds, strict=True)]
    assert torch.equal(flat(noisy[0].gradients), flat(noisy[1].gradients))


def test_states_that_run_away_in_turn_are_told(digits):
    x, y = digits
    net = network(activation="identity", gain=40.0)
    found = gradient(net, x, y, Cauchy(4, 0.5), Phases(Alternating()))
    assert found.verdict is Verdict.NON_FINITE
    few = gradient(network(), x, y, Cauchy(4, 0.5), Phases(Alternating(1)))
    assert few.verdict is Verdict.FREE_PHASE_UNCONVERGED


def test_layered_gradients_are_those_of_a_graph(digits):
    x, y = digits
    for options in ({}, {"feedback": "independent", "angle": 50.0}, {"loss": "squared"}):
        net = network(**options)
        net.biases[0].requires_grad_(False)
        _, encoded = net.validate(x, y)
        generator = torch.Generator().manual_seed(0)
        rates, adjoint = (torch.rand(20, net.units, dtype=torch.float64, generator=generator) for _ in range(2))
        with torch.no_grad():
            loss, ours = net.gradients(rates, x, net.drive(x), encoded, adjoint)
        expected, graph = Network.gradients(net, rates, x, net.drive(x), encoded, adjoint)
        assert float(loss) == pytest.approx(float(expected))
        assert list(ours) == list(graph)
        assert "biases.0" not in ours
        assert torch.allclose(flat(ours), flat(graph), rtol=1e-12)


def test_an_unconverged_free_phase_is_told(digits):
    x, y = digits
    found = gradient(network(), x, y, Cauchy(4, 0.5), Phases(FixedStep(3)))
    assert found.verdict is Verdict.FREE_PHASE_UNCONVERGED
    assert "residual" in found.message


def test_an_unconverged_nudged_phase_is_told(digits):
    x, y = digits
    found = gradient(network(), x, y, Cauchy(4, 0.5), Phases(FixedStep(), FixedStep(2)))
    assert found.verdict is Verdict.NUDGED_PHASE_UNCONVERGED
    found = gradient(network(), x, y, RecurrentBackprop(FixedStep(2)))
    assert found.verdict is Verdict.NUDGED_PHASE_UNCONVERGED
    assert gradient(network(), x, y, Unrolled(2)).verdict is Verdict.NUDGED_PHASE_UNCONVERGED


PRECISELY = Phases(FixedStep(400, tolerance=1e-10))


@pytest.fixture(scope="module")
def exact_gradients(digits):
    nets = network(), network(loss="squared"), network(loss="squared", gain=1.0), network(gain=0.8)
    return [(net, gradient(net, *digits, Implicit(), PRECISELY)) for net in nets]


@pytest.mark.parametrize("n", [2, 4, 6, 8, 12])
@pytest.mark.parametrize("radius", [0.5, 1.0, 2.0, 4.0, 8.0])
def test_a_radius_beyond_analyticity_is_never_called_right(digits, exact_gradients, n, radius):
    x, y = digits
    for net, exact in exact_gradients:
        found = gradient(net, x, y, Cauchy(n, radius), PRECISELY)
        error = float((flat(found.gradients) - flat(exact.gradients)).norm() / flat(exact.gradients).norm())
        assert not (found.ok and error > 0.1), (error, found.truncation)


def test_runaway_states_are_told(digits):
    x, y = digits
    net = network(activation="identity", gain=40.0)
    found = gradient(net, x, y, Cauchy(4, 0.5))
    assert found.verdict is Verdict.NON_FINITE


@pytest.mark.parametrize("activation", ["hard-sigmoid", "relu"])
@pytest.mark.parametrize("estimator", [Cauchy(3, 0.1), AsymmetricCauchy(6, 0.1), ContinuousOscillation(0.1)])
def test_complex_nudges_of_a_non_holomorphic_activation_are_refused(digits, activation, estimator):
    x, y = digits
    with pytest.raises(ValueError, match=f"estimator .*{activation}"):
        gradient(network(activation=activation), x, y, estimator)
    assert gradient(network(activation=activation), x, y, Centred(0.01)).verdict is not Verdict.NON_FINITE


class NotHolomorphic(Sine):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, u, x):
        if self.kind == "abs":
            return x - u + 0.1 * u.abs() @ self.weight.to(u.abs().dtype)
        if self.kind == "conj":
            return x - u + 0.1 * u.conj() @ self.weight.to(u.dtype)
        if self.kind == "relu":
            return x - u + torch.relu(u) @ self.weight.to(u.dtype)
        return x - u + 0.1 * torch.complex(u.real.square(), u.imag) if u.is_complex() else x - u


@pytest.mark.parametrize("kind", ["abs", "conj", "relu", "parts"])
def test_a_vector_field_that_is_not_holomorphic_is_found_out(kind):
    net = VectorField(NotHolomorphic(kind), 6, squared)
    x = torch.ones(2, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match="not holomorphic"):
        gradient(net, x, torch.zeros_like(x), Cauchy(4, 0.1))


def test_a_caller_mistakes_are_refused_by_name(digits):
    x, y = digits
    net = network()
    nan = x.clone()
    nan[3, 4] = math.nan
    cases = [
        ((nan, y), ValueError, "x must be finite, got 1 NaN"),
        ((x.float(), y), TypeError, "x must have the network's dtype"),
        ((x[:, :5], y), ValueError, r"x must be \(batch, 64\)"),
        ((x[:0], y[:0]), ValueError, "x must be .* at least one sample"),
        ((x.numpy(), y), TypeError, "x must be a torch tensor"),
        ((x, y[:5]), ValueError, "target must hold one entry for each of 20"),
        ((x, y + 10), ValueError, "target must be between 0 and 9"),
        ((x, y - 10), ValueError, "target must be between 0 and 9, got -"),
        ((x, y.double()), TypeError, "target must be class indices"),
        ((x, torch.tensor(3)), ValueError, "target must hold"),
    ]
    for batch, error, message in cases:
        with pytest.raises(error, match=message):
            gradient(net, *batch, Cauchy(4, 0.5))
    with pytest.raises(ValueError, match="generator"):
        gradient(net, x, y, Cauchy(4, 0.5), Phases(noise=0.1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cauchy(0, 0.5), "n must be at least 1"),
        (lambda: Cauchy(4, -0.5), "radius must be greater than 0"),
        (lambda: OneSided(0.0), "beta must not be 0"),
        (lambda: Centred(math.nan), "beta must be finite"),
        (lambda: ContinuousOscillation(0.5, 2), "period must be at least 3"),
        (lambda: FixedStep(0), "steps must be at least 1"),
        (lambda: Alternating(0), "steps must be at least 1"),
        (lambda: Alternating(tolerance=0.0), "tolerance must be greater than 0"),
        (lambda: Phases(noise=-1.0), "noise must be at least 0"),
        (lambda: LayeredNetwork((4, 2)), "sizes must have entries for input, hidden layers and output"),
        (lambda: LayeredNetwork((4, 3, 2), activation="swish"), "activation must be one of"),
        (lambda: LayeredNetwork((4, 3, 2), angle=30.0), "angle must be 0 where feedback is tied"),
        (lambda: LayeredNetwork((4, 3, 2), feedback="independent", angle=200.0), "angle must be between 0 and 180"),
        (lambda: ConvolutionalNetwork((1, 9, 8), (4,), 10), "image must have sides divisible by 2"),
        (lambda: ConvolutionalNetwork((1, 8, 8), (4,), 10, kernel=2), "kernel must be odd"),
    ],
)
def test_settings_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 180.0])
def test_independent_feedback_starts_at_the_angle_asked_for(angle):
    nets = [
        LayeredNetwork((8, 12, 10, 9, 4), feedback="independent", angle=angle, loss="squared"),
        ConvolutionalNetwork((1, 8, 8), (4, 6), 3, feedback="independent", angle=angle),
    ]
    for net in nets:
        assert net.feedback_angles() == pytest.approx([angle] * len(net.feedback_angles()), abs=0.05)
        assert net.feedback_angles()


def test_noise_spoils_a_small_nudge_and_not_a_contour(digits):
    """With 0.04 on every state at every step, as in Laborieux and Zenke 2022."""
    x, y = digits
    net = network()
    phases = Phases(FixedStep(100), FixedStep(100), noise=0.04, average=50)
    rows = compare_gradients(net, (x, y), [OneSided(0.01), Cauchy(10, 0.5)], phases=phases).rows
    assert [row.verdict for row in rows] == [Verdict.NOISY] * 2
    assert rows[0].relative_error > 5 * rows[1].relative_error
    assert rows[1].cosine > 0.9


def test_the_same_seed_gives_the_same_noise(digits):
    x, y = digits
    phases = Phases(FixedStep(20), noise=0.04)
    net = network()
    one, two, other = (
        gradient(net, x, y, Cauchy(4, 0.5), phases, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(flat(one.gradients), flat(two.gradients))
    assert not torch.equal(flat(one.gradients), flat(other.gradients))


def test_single_precision_keeps_its_dtype_and_its_accuracy(digits):
    x, y = digits[0].float(), digits[1]
    net = network(dtype=torch.float32)
    phases = Phases(FixedStep(200, tolerance=1e-6))
    found = compare_gradients(net, (x, y), [Cauchy(6, 0.5)], phases=phases).rows[0]
    assert found.relative_error < 1e-4
    measured = gradient(net, x, y, Cauchy(6, 0.5), phases)
    assert {g.dtype for g in measured.gradients.values()} == {torch.float32}


def test_no_input_is_modified_and_strides_do_not_matter(digits):
    x, y = digits
    before = x.clone()
    net = network()
    one = gradient(net, x, y, Cauchy(4, 0.5), EXACT)
    assert torch.equal(x, before)
    other = gradient(net, x.T.contiguous().T, y, Cauchy(4, 0.5), EXACT)
    assert torch.allclose(flat(one.gradients), flat(other.gradients), atol=1e-13)


def test_the_gradient_of_a_batch_is_the_mean_over_its_samples(digits):
    x, y = digits
    net = asymmetric()
    whole = flat(gradient(net, x[:4], y[:4], AsymmetricCauchy(6, 0.5), EXACT).gradients)
    parts = [
        flat(gradient(net, x[i : i + 1], y[i : i + 1], AsymmetricCauchy(6, 0.5), EXACT).gradients) for i in range(4)
    ]
    assert torch.allclose(whole, torch.stack(parts).mean(0), atol=1e-12)


def test_the_comparison_draws_and_prints(digits, tmp_path):
    found = compare_gradients(network(), digits, [OneSided(0.5), Cauchy(4, 0.5)], phases=EXACT)
    assert len(found.table().splitlines()) == 4
    found.plot(tmp_path / "comparison.png")
    assert (tmp_path / "comparison.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="estimators must have at least one"):
        compare_gradients(network(), digits, [])
