"""Mistakes in what the estimators of energies are given are refused by the name of the argument and the column."""

import importlib.util
import math
import sys
import warnings
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.energy import (  # noqa: E402
    AIS,
    MECO,
    PCD,
    ULA,
    EnergyDensity,
    EnergyOutlierDetector,
    EnergyRegressor,
    FlowNoise,
    GaussianNoise,
    ImportanceSampling,
    MLPEnergy,
    log_partition,
    planar,
    save_energy,
    train,
)

FAST = {"steps": 60, "random_state": 0}


def moons(count):
    return planar("two-moons").sample(count, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_data_that_are_no_numbers_are_refused(bad):
    x = moons(100)
    x[3, 1] = bad
    for estimator in (EnergyDensity(**FAST), EnergyOutlierDetector(**FAST)):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            estimator.fit(x)


@pytest.mark.parametrize("estimator", [EnergyDensity, EnergyOutlierDetector, EnergyRegressor])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: f.assign(b=np.nan), "X must be finite, got nan in column 'b'"),
        (lambda f: f.assign(b="u"), "X must hold numbers, got 'u' in column 'b'"),
        (lambda f: f.assign(b=f["a"].astype("datetime64[s]")), r"X must hold numbers, got datetime64\[s\] in 'b'"),
        (lambda f: f["a"].to_numpy().astype("datetime64[s]")[:, None], r"X must hold numbers, got datetime64\[s\]"),
        (lambda f: torch.from_numpy(f.to_numpy()).requires_grad_(), "X must not require gradients"),
        (lambda f: "words", "X must hold numbers"),
    ],
)
def test_what_is_no_number_is_refused_by_its_column(estimator, change, named):
    pandas = pytest.importorskip("pandas")
    x = change(pandas.DataFrame(moons(40), columns=["a", "b"]))
    with pytest.raises((ValueError, TypeError), match=named):
        estimator(**FAST).fit(x, np.zeros(40))


@pytest.mark.parametrize(
    ("y", "named"),
    [
        (["word"] * 40, "y must hold numbers"),
        (np.arange(40).astype("datetime64[D]"), "y must hold numbers, got datetime64"),
        (np.full(40, np.inf), "y contains infinity"),
    ],
)
def test_targets_that_are_no_numbers_are_refused(y, named):
    with pytest.raises((ValueError, TypeError), match=named):
        EnergyRegressor(**FAST).fit(moons(40), y)


@pytest.mark.usefixtures("brief_search")
def test_what_is_given_besides_data_is_refused_if_it_is_of_another_kind():
    with pytest.raises(TypeError, match="checkpoints must be"):
        EnergyDensity(**FAST).fit(moons(40), checkpoints="folder")
    with pytest.raises(TypeError, match="watcher must be"):
        EnergyDensity(**FAST).fit(moons(40), watcher=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        view = EnergyDensity((4,), noise="gaussian", partition_draws=500, **FAST).fit(moons(40)).distribution()
    with pytest.raises(ValueError, match=r"value must be of shape \(…, 2\), got \(3,\)"):
        view.log_prob(torch.zeros(3))


@pytest.mark.usefixtures("brief_search")
@pytest.mark.parametrize("rows", [25, 60])
def test_a_flow_is_judged_by_few_rows_and_leaves_the_checks_of_other_distributions_on(rows, monkeypatch):
    if importlib.util.find_spec("zuko") is None:
        pytest.skip("zuko is not installed (extra: flows)")
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)
    for name in [name for name in sys.modules if name.partition(".")[0] == "zuko"]:
        monkeypatch.delitem(sys.modules, name)  # so that it is imported anew
    monkeypatch.setattr(FlowNoise, "fit", partial(FlowNoise.fit, steps=2))
    settings = {"steps": 2, "partition_draws": 500, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = EnergyDensity((4,), noise="flow", **settings).fit(moons(rows))
    assert ("too few to judge" in model.verdict_.reason) == (rows == 25)
    with pytest.raises(ValueError, match="scale"):
        torch.distributions.Normal(0.0, -1.0)


@pytest.mark.parametrize(
    ("estimator", "change"),
    [
        (EnergyDensity, {"noise": "cauchy"}),
        (EnergyDensity, {"objective": "likelihood"}),
        (EnergyDensity, {"steps": 0}),
        (EnergyDensity, {"hidden_sizes": (0,)}),
        (EnergyDensity, {"validation_fraction": 1.0}),
        (EnergyDensity, {"average": 1.5}),
        (EnergyDensity, {"octaves": -1}),
        (EnergyOutlierDetector, {"contamination": 0.7}),
        (EnergyOutlierDetector, {"contamination": 0.0}),
        (EnergyOutlierDetector, {"trim": 0.5}),
        (EnergyOutlierDetector, {"trim": math.nan}),
        (EnergyDensity, {"batch_size": 0}),
        (EnergyDensity, {"noise_batch_size": 1.5}),
        (EnergyDensity, {"learning_rate": "fast"}),
        (EnergyDensity, {"objective": [MECO]}),
        (EnergyDensity, {"noise": GaussianNoise}),
        (EnergyDensity, {"noise": GaussianNoise(torch.zeros(3), torch.eye(3))}),
        (EnergyDensity, {"octaves": True}),
        (EnergyDensity, {"random_state": "a"}),
        (EnergyDensity, {"device": "abacus"}),
        (EnergyDensity, {"device": None}),
        (EnergyOutlierDetector, {"hidden_sizes": 8}),
        (EnergyRegressor, {"hidden_sizes": (8.0,)}),
        (EnergyRegressor, {"device": "abacus"}),
        (EnergyRegressor, {"random_state": -1}),
        (EnergyRegressor, {"nodes": 2}),
        (EnergyRegressor, {"learning_rate": -1.0}),
    ],
)
def test_bad_parameters_are_refused_by_name(estimator, change):
    x = moons(100)
    with pytest.raises((ValueError, TypeError), match=f"^{next(iter(change))} must"):
        estimator(**change).fit(x, x[:, 0])


def bowl(x):
    return 0.5 * x.square().sum(1)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda x, q: train(MLPEnergy(2, (4,)), x.double(), q, MECO()), "energy must take torch.float64"),
        (lambda x, q: train(MLPEnergy(2, (4,)), x, None, MECO()), "noise must be an object"),
        (lambda x, q: train(MLPEnergy(2, (4,)), x, q, MECO(), {"steps": 2}), "settings must be TrainingSettings"),
        (lambda x, q: train(MLPEnergy(2, (4,)), x, q, MECO(), watcher=3), "watcher must be callable"),
        (lambda x, q: log_partition(bowl, ImportanceSampling), "method must be .* got the class ImportanceSampling"),
        (lambda x, q: log_partition("bowl", ImportanceSampling(q)), "energy must be callable"),
        (lambda x, q: ImportanceSampling("gaussian"), "noise must be an object"),
        (lambda x, q: AIS(GaussianNoise), "noise must be an object .* got the class GaussianNoise"),
        (lambda x, q: PCD(ULA), "sampler must be an object .* got the class ULA"),
        (lambda x, q: GaussianNoise(np.zeros(2), torch.eye(2)), "mean must be a tensor"),
        (lambda x, q: q.sample(3, 0), "generator must be a torch.Generator"),
        (lambda x, q: q.log_prob(x[:, :1]), r"x must be of shape \(n, 2\), got \(9, 1\)"),
        (lambda x, q: MLPEnergy(2, 4), "hidden must be a tuple"),
        (lambda x, q: save_energy(bowl, "nowhere"), "energy must be a torch.nn.Module"),
    ],
)
def test_arguments_of_another_kind_are_refused_before_any_work(call, named):
    noise = GaussianNoise(torch.zeros(2), torch.eye(2))
    with pytest.raises((TypeError, ValueError), match=named):
        call(torch.zeros(9, 2), noise)
