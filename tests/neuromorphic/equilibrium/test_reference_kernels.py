"""The compiled kernels against their NumPy twin, as plain Python, and against torch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

from relaxon.neuromorphic.equilibrium import (  # noqa: E402
    Cauchy,
    FixedStep,
    LayeredNetwork,
    Phases,
    gradient,
    kernels,
)
from relaxon.neuromorphic.equilibrium.reference import LayeredReference  # noqa: E402

TIGHT = 1e-13


def made(sizes=(6, 7, 5, 3), **options):
    options.setdefault("dtype", torch.float64)
    return LayeredNetwork(sizes, seed=3, gain=0.6, **options)


def batch(sizes=(6,), samples=4, classes=3):
    rng = np.random.default_rng(1)
    return rng.random((samples, sizes[0])), rng.integers(0, classes, samples)


NETWORKS = [
    {},
    {"feedback": "independent", "angle": 80.0},
    {"sizes": (6, 7, 5, 4, 3)},
    {"sizes": (6, 9, 3)},
]


def arrays(found):
    return [*found.weights, *found.biases, *found.backward]


@pytest.mark.parametrize("options", NETWORKS)
@pytest.mark.parametrize("n", [1, 2, 4, 5])
def test_kernel_twin_and_torch_measure_the_same_gradient(options, n):
    net = made(**options)
    x, y = batch()
    reference = LayeredReference.of(net)
    compiled = reference.cauchy(x, y, n, 0.3, tolerance=TIGHT)
    slow = reference.cauchy(x, y, n, 0.3, tolerance=TIGHT, backend="numpy")
    phases = Phases(FixedStep(500, tolerance=TIGHT))
    measured = gradient(net, torch.from_numpy(x), torch.from_numpy(y), Cauchy(n, 0.3), phases)
    expected = [g.numpy() for g in measured.gradients.values()]
    for a, b, c in zip(arrays(compiled), arrays(slow), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(a, c, rtol=1e-9, atol=1e-12)
    assert compiled.residual <= TIGHT


@pytest.mark.parametrize("kind", [np.float64, np.complex128])
def test_the_kernel_as_plain_python_does_what_it_does_compiled(kind, monkeypatch):
    reference = LayeredReference.of(made())
    x, y = batch(samples=2)
    drive, target = reference.drive(x), np.eye(3)[y]
    beta = np.array([0.2, 0.1 + 0.15j] if kind is np.complex128 else [0.2, -0.2], kind)
    rng = np.random.default_rng(0)
    start = rng.random((2, 2, drive.shape[1])).astype(kind)
    if kind is np.complex128:
        start = start + 0.1j * rng.random(start.shape)
    given = (start, drive, target, beta, 1e-10, 200, "numba")
    compiled = reference.relax(*given)
    for name in ("rates", "pull", "error", "relax_one", "relax_jobs"):
        monkeypatch.setattr(kernels, name, getattr(kernels, name).py_func)
    plain = reference.relax(*given)
    np.testing.assert_allclose(compiled[0], plain[0], rtol=1e-9)
    np.testing.assert_array_equal(compiled[2], plain[2])
    assert compiled[1].max() <= 1e-10


def test_single_precision_stays_single():
    net = made(dtype=torch.float32)
    x, y = batch()
    found = LayeredReference.of(net).cauchy(x.astype(np.float32), y, 4, 0.3, tolerance=1e-6)
    assert {a.dtype for a in arrays(found)} == {np.dtype(np.float32)}
    exact = LayeredReference.of(made()).cauchy(x, y, 4, 0.3, tolerance=TIGHT)
    for a, b in zip(arrays(found), arrays(exact), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=1e-4)


def test_each_sample_stops_on_its_own():
    reference = LayeredReference.of(made())
    x, y = batch()
    drive, target = reference.drive(x), np.eye(3)[y]
    start = np.zeros((4, 1, drive.shape[1]))
    none = np.zeros(1)
    rest, _, _ = reference.relax(start, drive, target, none, 1e-12, 500, "numba")
    start[0] = rest[0]
    _, _, taken = reference.relax(start, drive, target, none, 1e-10, 500, "numba")
    assert taken[0, 0] == 0
    assert taken[1:].min() > 3


def test_nan_ends_as_not_converged():
    reference = LayeredReference.of(made())
    x, y = batch()
    x[1] = np.nan
    found = reference.cauchy(x, y, 2, 0.3, tolerance=1e-8, steps=30)
    assert not found.residual <= 1e-8


@pytest.mark.parametrize("options", [{"activation": "tanh"}, {"loss": "squared"}])
def test_a_form_the_kernels_do_not_have_is_refused(options):
    with pytest.raises(ValueError, match="network must have activation 'sigmoid' and loss 'cross-entropy'"):
        LayeredReference.of(made(**options))
