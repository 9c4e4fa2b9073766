"""Training: it learns, resumes to the same bits, can be cancelled, and says when it is lost."""

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from sklearn.exceptions import ConvergenceWarning  # noqa: E402

from relaxon.neuromorphic.checkpoints import Checkpoints, DamagedCheckpoint  # noqa: E402
from relaxon.neuromorphic.equilibrium import (  # noqa: E402
    AsymmetricCauchy,
    Cauchy,
    ConvolutionalNetwork,
    EnergyNetwork,
    EquilibriumClassifier,
    FixedStep,
    HopfieldPotential,
    Implicit,
    JacobianHomeostasis,
    LayeredNetwork,
    OneSided,
    Phases,
    TrainingSettings,
    VectorField,
    datasets,
    load_network,
    predict,
    save_network,
    train,
)
from relaxon.neuromorphic.equilibrium.networks.network import squared_loss  # noqa: E402
from relaxon.neuromorphic.equilibrium.training.loop import evaluate  # noqa: E402
from relaxon.neuromorphic.equilibrium.training.recipes import training_phases  # noqa: E402
from relaxon.neuromorphic.equilibrium.training.report import TrainingOutcome  # noqa: E402


@pytest.fixture(scope="module")
def data():
    found = datasets.digits().flat()
    return torch.from_numpy(found.x[:400]), torch.from_numpy(found.y[:400])


@pytest.fixture(scope="module")
def test():
    found = datasets.digits().flat()
    return torch.from_numpy(found.test_x), torch.from_numpy(found.test_y)


def network(**options):
    options.setdefault("gain", 1.0)
    return LayeredNetwork((64, 24, 16, 10), input_gain=2.0, **options)


def settings(**options):
    chosen = {
        "epochs": 3,
        "batch": 32,
        "rate": 0.15,
        "estimator": Cauchy(4, 0.1),
        "phases": training_phases(),
        "contraction": 0.9,
        "readout_bound": 4.0,
        "probe": False,
    }
    return TrainingSettings(**(chosen | options))


def bits(net):
    return [p.detach().clone() for p in net.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_training_learns_the_digits(data, test):
    report = train(network(), data, settings(epochs=15, schedule="cosine"), test=test)
    assert report.ended is TrainingOutcome.FINISHED
    assert report.epochs[-1].loss < report.epochs[0].loss / 2
    assert report.epochs[-1].test_accuracy > 0.7


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_resumed_run_ends_with_the_same_bits(data, test, tmp_path, optimiser):
    options = {
        "optimiser": optimiser,
        "rate": 0.15 if optimiser == "sgd" else 0.01,
        "homeostasis": JacobianHomeostasis(),
        "phases": Phases(training_phases().free, training_phases().nudged, noise=0.01),
        "schedule": "cosine",
        "probe": True,
    }
    data, test = (tuple(part[:160] for part in pair) for pair in (data, test))
    whole, parts = network(feedback="independent", angle=90.0), network(feedback="independent", angle=90.0)
    first = train(whole, data, settings(**options), test=test)
    # Stopped in the middle of an epoch, then gone on with by a network made anew.
    stopped = train(parts, data, settings(**options, out=tmp_path), test=test, watcher=lambda step: step.step == 8)
    assert (stopped.ended, stopped.steps) == (TrainingOutcome.CANCELLED, 8)
    parts = network(feedback="independent", angle=90.0, seed=5)
    second = train(parts, data, settings(**options, out=tmp_path), test=test)
    assert same(bits(whole), bits(parts))
    assert second.ended is TrainingOutcome.FINISHED
    for one, other in zip(first.epochs, second.epochs, strict=True):
        assert (one.loss, one.test_accuracy, one.angle, one.verdicts) == (
            other.loss,
            other.test_accuracy,
            other.angle,
            other.verdicts,
        )
    again = train(network(feedback="independent", angle=90.0), data, settings(**options, out=tmp_path), test=test)
    assert again.steps == second.steps  # a finished run is not trained on


def test_a_seed_decides_the_bits(data):
    runs = [network(seed=seed) for seed in (0, 0)]
    for net in runs:
        train(net, data, settings(epochs=1, seed=4))
    assert same(bits(runs[0]), bits(runs[1]))
    other = network()
    train(other, data, settings(epochs=1, seed=5))
    assert not same(bits(runs[0]), bits(other))


def test_a_checkpoint_of_another_run_is_refused(data, tmp_path):
    train(network(), data, settings(epochs=1, out=tmp_path))
    with pytest.raises(ValueError, match="out must be empty or hold a run of the same settings"):
        train(network(), data, settings(epochs=2, out=tmp_path))
    with pytest.raises(ValueError, match="out must be empty or hold a run of the same network"):
        train(LayeredNetwork((64, 24, 17, 10)), data, settings(epochs=1, out=tmp_path))
    with pytest.raises(ValueError, match="out must be empty or hold a run of the same data"):
        train(network(), (data[0][:99], data[1][:99]), settings(epochs=1, out=tmp_path))
    (tmp_path / "checkpoint.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        train(network(), data, settings(epochs=1, out=tmp_path))


def test_contraction_bounds_the_recurrent_weights_and_the_readout(data):
    net = network(feedback="independent", angle=45.0, gain=3.0)
    train(net, data, settings(epochs=1, contraction=0.7, readout_bound=2.0))
    for weight in (net.weights[1], net.backward_weights[0]):
        assert float(torch.linalg.matrix_norm(weight.detach(), 2)) < 0.7 * 1.05
    assert float(torch.linalg.matrix_norm(net.weights[2].detach(), 2)) < 2.0 * 1.05
    with pytest.raises(TypeError, match="contraction must be None"):
        train(EnergyNetwork(HopfieldPotential(64, 5), 5, squared_loss), (data[0], data[0][:, :5]), settings())


def test_a_run_that_is_lost_ends_and_says_so(data):
    net = network(activation="identity", gain=60.0)
    before = bits(net)
    report = train(net, data, settings(estimator=OneSided(0.5), contraction=None, readout_bound=None))
    assert report.ended is TrainingOutcome.NON_FINITE
    assert report.steps == 20
    assert same(before, bits(net))  # no step was taken on a gradient without a value


def test_what_cannot_be_trained_on_is_refused_before_any_step(data):
    x, y = data
    nan = x.clone()
    nan[0, 0] = math.nan
    net = network()
    before = bits(net)
    for batch, error, message in [
        ((nan, y), ValueError, "data: x must be finite"),
        ((x, y + 1), ValueError, "data: target must be between 0 and 9, got 10"),
        ([x, y], TypeError, "data must be a pair of tensors"),
        ((x, y[:3]), ValueError, "data: target must hold one entry"),
    ]:
        with pytest.raises(error, match=message):
            train(net, batch, settings())
    with pytest.raises(ValueError, match="test: x must be finite"):
        train(net, data, settings(), test=(nan, y))
    with pytest.raises(ValueError, match="not holomorphic"):
        train(network(activation="relu"), data, settings())
    assert same(before, bits(net))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be at least 1"),
        ({"rate": math.nan}, ValueError, "rate must be finite"),
        ({"momentum": 1.0}, ValueError, "momentum must be at least 0 and below 1"),
        ({"optimiser": "lbfgs"}, ValueError, "optimiser must be"),
        ({"schedule": "step"}, ValueError, "schedule must be"),
        ({"estimator": "cauchy"}, TypeError, "estimator must be an Estimator"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"contraction": None}, ValueError, "readout_bound must be None"),
    ],
)
def test_settings_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        settings(**options)


def test_metrics_tell_what_the_gradients_were(data):
    """At 90° plain Cauchy is far from exact; homeostasis turns the weights; the asymmetric estimate is exact."""

    def last(estimator, homeostasis):
        net = network(feedback="independent", angle=90.0)
        chosen = settings(estimator=estimator, homeostasis=homeostasis, probe=True)
        return train(net, data, chosen).epochs[-1]

    plain = last(Cauchy(4, 0.1), None)
    turned = last(Cauchy(4, 0.1), JacobianHomeostasis(weight=5.0))
    exact = last(AsymmetricCauchy(4, 0.1), None)
    assert plain.angle > 5
    assert exact.angle < 2
    assert turned.angle < plain.angle / 2
    assert turned.antisymmetry < plain.antisymmetry / 2
    assert turned.feedback_angles[0] < 45 < plain.feedback_angles[0]
    assert sum(exact.verdicts.values()) == math.ceil(400 / 32)


@pytest.mark.parametrize(
    "make",
    [
        lambda: network(feedback="independent", angle=30.0),
        lambda: network(loss="squared", dtype=torch.float64),
        lambda: ConvolutionalNetwork((1, 8, 8), (3, 4), 10, feedback="independent", angle=50.0),
    ],
)
def test_a_stored_network_says_the_same(tmp_path, make):
    net = make()
    save_network(net, tmp_path / "model", {"test_accuracy": 0.5})
    other, card = load_network(tmp_path / "model")
    assert card == {"test_accuracy": 0.5}
    assert same(bits(net), bits(other))
    shape = (5, 64) if isinstance(net, LayeredNetwork) else (5, 1, 8, 8)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=net.dtype)
    assert torch.equal(predict(net, x)[0], predict(other, x)[0])
    assert json.loads((tmp_path / "model" / "network.json").read_text())["kind"] in ("layered", "convolutional")


def test_damaged_models_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"network\.safetensors"):
        load_network(tmp_path)
    save_network(network(), tmp_path)
    path = tmp_path / "network.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(ValueError, match="is not a stored network"):
        load_network(tmp_path)
    path.write_bytes(whole.replace(b"layered", b"lawered"))
    with pytest.raises(ValueError, match="of kind layered or convolutional"):
        load_network(tmp_path)
    broken = network()
    with torch.no_grad():
        broken.weights[0][0, 0] = math.nan
    save_network(broken, tmp_path)
    with pytest.raises(ValueError, match="finite weights"):
        load_network(tmp_path)
    with pytest.raises(
        TypeError, match="network must be a LayeredNetwork, a ConvolutionalNetwork or a ResidualNetwork"
    ):
        save_network(VectorField(torch.nn.Linear(2, 2), 2, lambda u, y: u.sum(-1)), tmp_path)


def write_idx(path, array):
    header = bytes((0, 0, 8, array.ndim)) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def load_idx(folder):
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        images, labels = rng.integers(0, 256, (count, 4, 6)), rng.integers(0, 3, count)
        labels[0] = 2
        images[:, 0, 0] = labels * 100
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)
    return folder


def test_idx_files_are_read_and_damaged_ones_refused(tmp_path):
    found = datasets.load(str(load_idx(tmp_path)))
    assert (found.x.shape, found.test_x.shape, found.classes) == ((60, 1, 4, 6), (20, 1, 4, 6), 3)
    assert found.x[5, 0, 0, 0] == pytest.approx(found.y[5] * 100 / 255)
    assert found.x.min() >= 0
    assert found.x.max() <= 1
    path = tmp_path / "train-labels-idx1-ubyte"
    whole = path.read_bytes()
    for damaged, message in [(whole[:-1], "must have 60 bytes"), (b"", "nothing"), (b"\0\0\x0d\1" + whole[4:], "IDX")]:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            datasets.load(str(tmp_path))
    path.unlink()
    with pytest.raises(FileNotFoundError, match="train-labels-idx1-ubyte"):
        datasets.load(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="data must be"):
        datasets.load("no-such-folder")


def test_the_command_trains_stores_and_resumes(tmp_path, capsys):
    from relaxon.cli import main

    folder = tmp_path / "data"
    folder.mkdir()
    arguments = ["train", "equilibrium", "--data", str(load_idx(folder)), "--out", str(tmp_path / "out")]
    arguments += ["--hidden", "8", "6", "--epochs", "2", "--batch", "20", "--plot", str(tmp_path / "plot.png")]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "test accuracy" in said.out
    net, card = load_network(tmp_path / "out")
    assert card["data"] == "data"
    assert net.sizes == (24, 8, 6, 3)
    assert (tmp_path / "plot.png").stat().st_size > 1000
    assert main(arguments) == 0
    assert main([*arguments, "--radius", "0.2"]) == 2
    assert "same settings" in capsys.readouterr().err
    assert main(["train", "equilibrium", "--data", "nowhere"]) == 2
    assert main([*arguments[:4], "--channels", "2", "--epochs", "1"]) == 0
    clipped = ["--residual", "--activation", "relu6", "--n", "2", "--shift", "1", "--epochs", "1"]
    assert main([*arguments[:4], "--channels", "2", *clipped]) == 0
    assert main([*arguments[:4], *clipped]) == 2
    assert "residual must be False where channels is None" in capsys.readouterr().err
    assert main([*arguments[:4], "--n", "0"]) == 2


def test_an_implicit_step_and_an_asymmetric_one_train_alike(data):
    nets = []
    for estimator in (Implicit(), AsymmetricCauchy(6, 0.2)):
        net = network(feedback="independent", angle=90.0, dtype=torch.float64)
        double = (data[0][:64].double(), data[1][:64])
        train(net, double, settings(estimator=estimator, phases=Phases(), epochs=2, rate=0.05))
        nets.append(net)
    for one, other in zip(*(bits(net) for net in nets), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_importing_the_package_loads_nothing_heavy():
    import subprocess
    import sys

    heavy = ("torch", "numba", "scipy", "sklearn", "matplotlib")
    modules = "relaxon.neuromorphic, relaxon.neuromorphic.equilibrium, relaxon.neuromorphic.equilibrium.command"
    code = f"import sys, {modules}; print([m for m in {heavy!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_resolves():
    import relaxon.neuromorphic.equilibrium as package

    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name


def test_a_classifier_s_fit_that_is_cut_off_within_an_epoch_has_the_bits_of_an_unbroken_one(tmp_path):
    rows = np.random.default_rng(0).standard_normal((60, 3))
    labels = (rows[:, 0] > 0).astype(int)
    options = {"hidden_sizes": (6,), "epochs": 3, "batch_size": 20, "noise": 0.01, "random_state": 0}
    whole = EquilibriumClassifier(**options).fit(rows, labels)
    every = Checkpoints(tmp_path, seconds=0.0)

    class Killed(Exception):
        pass

    for last in (2, 4, 8):

        def killed(step, last=last):
            if step.step == last:
                raise Killed

        with pytest.raises(Killed):
            EquilibriumClassifier(**options).fit(rows, labels, watcher=killed, checkpoints=every)
    seen = []
    broken = EquilibriumClassifier(**options)
    broken.fit(rows, labels, watcher=lambda step: seen.append(step.step), checkpoints=every)
    assert seen == [8, 9]
    assert same(bits(broken.network_), bits(whole.network_))
    for ours, theirs in zip(broken.report_.epochs, whole.report_.epochs, strict=True):
        assert (ours.loss, ours.accuracy, ours.verdicts) == (theirs.loss, theirs.accuracy, theirs.verdicts)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(DamagedCheckpoint):
        EquilibriumClassifier(**options).fit(rows, labels, checkpoints=every)


def test_a_classifier_s_checkpoint_is_written_no_more_often_than_asked(tmp_path):
    rows = np.random.default_rng(0).standard_normal((60, 3))
    stopped = EquilibriumClassifier((6,), epochs=2, batch_size=20, random_state=0)
    seldom = Checkpoints(tmp_path, seconds=1e6)
    states = []

    def watcher(step):
        states.append((tmp_path / "checkpoint.safetensors").exists())
        return step.step == 5

    with pytest.warns(ConvergenceWarning, match="cancelled"):
        stopped.fit(rows, rows[:, 0] > 0, watcher=watcher, checkpoints=seldom)
    assert not any(states)
    assert (tmp_path / "checkpoint.safetensors").exists()  # a stop keeps its state


def test_test_metrics_are_relaxed_as_far_as_the_gradients(data, test):
    """A small nudge requires exact states; the test loss is that of states as exact."""
    data, test = ((x.double(), y) for x, y in (data, test))
    phases = Phases(FixedStep(500, tolerance=0.1))
    net = network(dtype=torch.float64)
    report = train(net, data, settings(epochs=1, estimator=OneSided(1e-6), phases=phases), test=test)
    exact, rough = (evaluate(net, *test, each)[0] for each in (Phases(FixedStep(2000, tolerance=1e-12)), phases))
    assert report.epochs[0].test_loss == pytest.approx(exact, abs=1e-3 * abs(rough - exact))
    assert rough != pytest.approx(exact, abs=1e-6)
