"""Binary weights of equilibrium networks: slopes, bits, exact prediction, storage, what is refused."""

import json
import math

import numpy as np
import pytest
import torch
from numba import njit
from sklearn.datasets import load_digits

from relaxon.neuromorphic.binary import (
    BinaryLayeredNetwork,
    BiPer,
    PackedEquilibrium,
    ReSTE,
    SignMatrix,
    kernels,
    pack_network,
    pack_signs,
)
from relaxon.neuromorphic.binary.layered import LatentWeights
from relaxon.neuromorphic.binary.packed import relax_unpacked
from relaxon.neuromorphic.boosting.stages.sign_units import reste_slope as reste_slope_of_arrays
from relaxon.neuromorphic.equilibrium import (
    Cauchy,
    EquilibriumClassifier,
    TrainingSettings,
    load_network,
    save_network,
    train,
)
from relaxon.neuromorphic.equilibrium.classifier.storage import load_classifier, save_classifier


def slope_of(module, points):
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(module(x).sum(), x)
    return slope


# ---- activations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("o", [1.0, 2.0, 3.0])
def test_reste_has_the_slope_of_its_power(o):
    inside = [-1.4, -0.7, -0.11, 0.11, 0.3, 1.4]
    step = 1e-6
    power = lambda z: math.copysign(abs(z) ** (1 / o), z)  # noqa: E731
    wanted = [(power(z + step) - power(z - step)) / (2 * step) for z in inside]
    np.testing.assert_allclose(slope_of(ReSTE(o), inside), wanted, rtol=1e-6)
    # Near 0 the slope is the chord's, beyond 1.5 it is 0.
    np.testing.assert_allclose(slope_of(ReSTE(o), [-0.05, 0.0, 0.1]), 0.1 ** (1 / o) / 0.1, rtol=1e-12)
    assert slope_of(ReSTE(o), [-1.6, 1.51]).tolist() == [0.0, 0.0]
    assert ReSTE(o)(torch.tensor([-2.0, -0.0, 0.0, 3.0])).tolist() == [-1.0, 1.0, 1.0, 1.0]
    points = np.linspace(-2, 2, 41)
    np.testing.assert_allclose(reste_slope_of_arrays(points, o), slope_of(ReSTE(o), points.tolist()), rtol=1e-12)


def test_reste_of_one_is_the_straight_through_estimator_and_o_rises_to_three():
    assert slope_of(ReSTE(1.0), [-1.0, 0.01, 1.5]).tolist() == pytest.approx([1.0, 1.0, 1.0])
    module, seen = ReSTE(), []
    for share in (0.0, 0.5, 1.0):
        module.progress(share)
        seen.append(module.o)
    assert seen == [1.0, 2.0, 3.0]


def test_biper_is_a_square_wave_with_the_slope_of_the_sine():
    module, points = BiPer(20.0), np.linspace(-0.3, 0.3, 61)
    wave = module(torch.from_numpy(points)).numpy()
    assert np.array_equal(wave, np.where(np.sin(20 * points) < 0, -1.0, 1.0))
    np.testing.assert_allclose(slope_of(module, points.tolist()), 20 * np.cos(20 * points), rtol=1e-9)
    module.progress(0.2)
    np.testing.assert_allclose(module(torch.from_numpy(points)), np.sin(20 * points), atol=1e-12)
    module.progress(0.5)
    assert set(np.unique(module(torch.from_numpy(points)))) == {-1.0, 1.0}


# ---- bits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [ReSTE(2.0), BiPer()])
def test_signs_go_through_torch_func_and_hand_on_nan(activation):
    v = torch.linspace(-1.2, 1.3, 6, dtype=torch.float64).reshape(3, 2).requires_grad_()
    (slope,) = torch.autograd.grad(activation(v).square().sum() + activation(v).sum(), v)
    by_row = torch.func.vmap(torch.func.grad(lambda row: activation(row).square().sum() + activation(row).sum()))
    assert torch.equal(by_row(v.detach()), slope)
    assert torch.isnan(activation(torch.tensor([math.nan, 0.5]))).tolist() == [True, False]


@pytest.mark.parametrize("columns", [1, 8, 63, 64, 65, 200])
def test_packing_keeps_every_sign(columns):
    rng = np.random.default_rng(columns)
    matrix = rng.normal(size=(5, columns))
    packed = pack_signs(matrix)
    signs = np.where(matrix < 0, -1, 1)
    assert np.array_equal(packed.unpack(), signs)
    assert np.array_equal(packed.transposed().unpack(), signs.T)
    assert np.array_equal(packed.ones, (signs == 1).sum(1))
    assert packed.nbytes == 5 * math.ceil(columns / 8)
    bits = (packed.words[:, :, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    flat = bits.transpose(1, 0, 2).reshape(5, -1)
    assert np.array_equal(flat[:, :columns], (signs + 1) // 2)
    assert not flat[:, columns:].any()


def test_words_count_the_product_of_signs_and_levels():
    rng = np.random.default_rng(0)
    S, q = pack_signs(rng.normal(size=(9, 130))), rng.integers(0, 16, 130).astype(np.uint64)
    planes, counts, state = np.empty((1, 4, 3), np.uint64), np.empty(9, np.uint64), np.full(9, 0.5)

    @njit
    def run(levels, words, ones, planes, counts, state):
        kernels.set_planes(levels, planes[0])
        kernels.add_product(words, ones, planes, 3, 130, 2.0, counts, state)

    run(np.pad(q, (0, 62)), S.words, S.ones, planes, counts, state)
    assert np.array_equal(state, 0.5 + 2.0 * (S.unpack().astype(int) @ (q.astype(int) - 3)))


def test_malformed_bits_are_refused():
    with pytest.raises(ValueError, match="zeros behind"):
        SignMatrix(np.array([[255]], np.uint8), 5)
    with pytest.raises(ValueError, match="packed must be uint8"):
        SignMatrix(np.zeros((2, 2), np.uint8), 30)
    with pytest.raises(ValueError, match="NaN"):
        pack_signs(np.array([[1.0, math.nan]]))
    with pytest.raises(ValueError, match="two axes"):
        pack_signs(np.zeros(3))


# ---- networks ----------------------------------------------------------------------------------------------------


def packed_of(sizes, seed=0):
    network = BinaryLayeredNetwork(sizes, gain=0.8, seed=seed, dtype=torch.float64)
    network.binarize()
    with torch.no_grad():
        for bias in network.biases:
            bias += 0.1 * torch.randn(bias.shape, dtype=bias.dtype, generator=torch.Generator().manual_seed(seed))
    return network, pack_network(network)


@pytest.mark.parametrize("sizes", [(3, 5, 2), (70, 33, 65, 4), (10, 64, 7, 130, 3)])
def test_bits_predict_what_the_signs_do_exactly(sizes):
    _, packed = packed_of(sizes)
    x = np.random.default_rng(1).normal(size=(6, sizes[0])) * 3
    fast, slow = packed.relax(x), relax_unpacked(packed, x)
    assert np.array_equal(fast.scores, slow.scores)
    assert np.array_equal(fast.levels, slow.levels)
    assert np.array_equal(fast.sweeps, slow.sweeps)
    assert (fast.sweeps > 0).all()
    # Each row relaxes on its own.
    assert np.array_equal(packed.relax(x[3:4]).scores, fast.scores[3:4])


def test_relaxation_lowers_the_energy_until_it_is_at_rest():
    _, packed = packed_of((6, 40, 30, 3))
    x = np.random.default_rng(2).normal(size=(20, 6))
    rest = packed.relax(x)
    energies = [packed.energy(x, packed.relax(x, sweeps).levels) for sweeps in range(1, int(rest.sweeps.max()) + 1)]
    falls = np.diff(np.array(energies), axis=0)
    assert (falls <= 1e-12).all()
    assert (falls < -1e-9).any()
    assert (packed.relax(x, 1).sweeps == -1).any()


def test_levels_are_the_rates_of_the_network_next_to_sixteenths():
    network, packed = packed_of((6, 20, 10, 3))
    x = np.random.default_rng(3).normal(size=(5, 6))
    x = np.rint(x * 64) / 64
    levels = packed.relax(x).levels
    with torch.no_grad():
        r = torch.from_numpy(levels.astype(float) / 15)
        u = network.pull(r, network.drive(torch.from_numpy(x)))
        wanted = network.activation(u) * 15
    assert float((torch.from_numpy(levels.astype(float)) - wanted).abs().max()) <= 0.5 + 1e-9


def test_latent_weights_pass_the_slope_and_keep_the_bound():
    for binarizer in ("reste", "biper"):
        network = BinaryLayeredNetwork((4, 30, 20, 3), binarizer=binarizer, gain=3.0, dtype=torch.float64)
        latent = LatentWeights(network, 0.9, 2.0)
        latent.apply(0.7, 50)
        weight, v = network.weights[1], latent.latent[1]
        alpha = float(weight.detach()[0, 0].abs())
        assert float(torch.linalg.matrix_norm(weight.detach(), 2)) <= 0.9 + 1e-6
        assert float(torch.linalg.matrix_norm(network.weights[-1].detach(), 2)) <= 2.0 + 1e-6
        weight.grad = torch.ones_like(weight)
        latent.set_gradients()
        seen = v.detach() / latent.spreads[1] if binarizer == "reste" else v.detach()
        module = ReSTE(latent.activation.o) if binarizer == "reste" else BiPer()
        inner = slope_of(module, seen.tolist()) / (latent.spreads[1] if binarizer == "reste" else 1.0)
        assert torch.allclose(v.grad, alpha * inner)
        latent.harden()
        assert network.binarized


def short_run(binarizer, folder=None, stop=None):
    network = BinaryLayeredNetwork((4, 12, 8, 3), binarizer=binarizer, gain=1.0, seed=1, dtype=torch.float64)
    x = torch.rand(60, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = (3 * x[:, 0]).long()
    settings = TrainingSettings(
        epochs=3, batch=10, rate=0.1, schedule="cosine", estimator=Cauchy(2, 0.1), probe=False, contraction=0.9,
        readout_bound=4.0, out=folder, checkpoint_seconds=0.0,
    )  # fmt: skip
    report = train(network, (x, y), settings, watcher=lambda p: stop is not None and p.step == stop)
    return network, report


@pytest.mark.parametrize("binarizer", ["reste", "biper"])
def test_training_ends_in_signs_and_resumes_to_the_same_bits(binarizer, tmp_path):
    network, _ = short_run(binarizer)
    assert network.binarized
    cut, _ = short_run(binarizer, tmp_path, stop=7)
    assert cut.binarized  # a run that is stopped leaves signs, too
    again, report = short_run(binarizer, tmp_path)
    assert report.ended.name == "FINISHED"
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_binary_networks_are_stored_in_bits_and_come_back_whole(tmp_path):
    network, packed = packed_of((70, 33, 65, 4))
    save_network(network, tmp_path)
    again, _ = load_network(tmp_path)
    assert isinstance(again, BinaryLayeredNetwork)
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    real = sum(4 * weight.numel() for weight in network.weights)
    assert packed.nbytes < real / 20
    path = tmp_path / "network.safetensors"
    assert path.stat().st_size < packed.nbytes + 8 * sum(len(bias) for bias in network.biases) + 2000
    path.write_bytes(path.read_bytes().replace(b"binarizer", b"binarizes"))
    with pytest.raises((ValueError, KeyError)):
        load_network(tmp_path)


def test_only_signs_are_packed():
    network = BinaryLayeredNetwork((3, 4, 2))
    with pytest.raises(ValueError, match="must be binarized"):
        pack_network(network)
    with pytest.raises(TypeError, match="BinaryLayeredNetwork"):
        pack_network(torch.nn.Linear(2, 2))
    network.binarize()
    assert isinstance(pack_network(network), PackedEquilibrium)
    with pytest.raises(ValueError, match="x must be finite"):
        pack_network(network).relax(np.full((1, 3), math.nan))
    state = network.packed_state()
    state["scales"] = -state["scales"]
    with pytest.raises(ValueError, match="scales must be finite and above 0"):
        network.load_packed(state)
    del state["signs.0"]
    with pytest.raises(ValueError, match=r"signs\.0"):
        network.load_packed(state)


# ---- the classifier ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    x, y = load_digits(return_X_y=True)
    model = EquilibriumClassifier((100,), epochs=5, binary=True, random_state=0)
    return model.fit(x[:700], y[:700]), x, y


def test_a_binary_classifier_learns_digits_with_nothing_but_signs(fitted):
    model, x, y = fitted
    assert model.score(x[700:], y[700:]) > 0.85
    assert all(len(torch.unique(weight.detach())) == 2 for weight in model.network_.weights)
    z = (x[:15] - model.mean_) / model.scale_
    scores, relaxation = model.relaxed(x[:15])
    assert np.array_equal(scores, relax_unpacked(model.packed(), z).scores)
    assert relaxation.outcome.name == "CONVERGED"
    again = EquilibriumClassifier((100,), epochs=5, binary=True, random_state=0).fit(x[:700], y[:700])
    assert np.array_equal(again.predict_proba(x), model.predict_proba(x))


def test_a_binary_classifier_is_stored_and_comes_back_whole(fitted, tmp_path):
    model, x, _ = fitted
    save_classifier(model, tmp_path)
    again = load_classifier(tmp_path)
    assert np.array_equal(again.predict_proba(x), model.predict_proba(x))
    assert json.loads((tmp_path / "network.json").read_text())["kind"] == "binary"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": (2,), "image": (1, 8, 8)}, "channels must be None"),
        ({"feedback": "independent"}, "feedback must be 'tied'"),
        ({"activation": "tanh"}, "activation must be 'sigmoid'"),
        ({"homeostasis": 0.1}, "homeostasis must be 0"),
        ({"binarizer": "round"}, "binarizer must be 'reste' or 'biper'"),
        ({"binary": 1}, "binary must be True or False"),
        ({"binary": None}, "binary must be True or False"),
    ],
)
def test_what_cannot_be_binary_is_refused_before_work(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        EquilibriumClassifier(**{"binary": True, **options}).check_parameters()


@pytest.mark.parametrize("make", [lambda: ReSTE(0.5), lambda: ReSTE(math.nan), lambda: BiPer(0.0)])
def test_activations_refuse_what_is_no_power_or_frequency(make):
    with pytest.raises(ValueError, match=r"must be"):
        make()
    with pytest.raises(ValueError, match="share must be at least 0 and at most 1"):
        ReSTE().progress(1.5)


def test_columns_whose_spread_overflows_are_refused():
    x = np.array([[0.0], [1.0], [2.0], [3.0]]) * 1e200
    with pytest.raises(ValueError, match="X must have a finite standard deviation in float64, got entries up to 3.0e"):
        EquilibriumClassifier((4,), epochs=1).fit(x, [0, 0, 1, 1])
