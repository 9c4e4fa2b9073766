"""The compiled dense network against its NumPy twin, as plain Python, and against torch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

from relaxon.neuromorphic.proximal import NetworkSettings, ProximalModel  # noqa: E402
from relaxon.neuromorphic.proximal import kernels as compiled  # noqa: E402
from relaxon.neuromorphic.proximal.potentials import build_potential  # noqa: E402
from relaxon.neuromorphic.proximal.reference import ProximalReference  # noqa: E402

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("hidden", [(7,), (7, 6, 4)])
@pytest.mark.parametrize("units", [(1.0, 0.0), (1.7, 0.3)])
def test_kernel_twin_and_torch_agree(hidden, units):
    settings = NetworkSettings((5,), hidden=hidden, scale=units[0], offset=units[1], seed=2)
    model = ProximalModel(build_potential(settings), 0.1)
    reference, y = ProximalReference.of(model), 3 * RNG.standard_normal((9, 5))
    values, f = model.potential(torch.from_numpy(y)).numpy(), model.denoise(y)
    for backend in ("numba", "numpy"):
        found_values, found = reference.evaluate(y, backend)
        np.testing.assert_allclose(found_values, values, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found, f, rtol=1e-12, atol=1e-12)
    plain_values, plain = np.empty(9), np.empty((9, 5))
    work = np.empty((9, 2, len(hidden), max(hidden)))
    arguments = (y, reference.theta, reference.widths, reference.constants, work, plain_values, plain)
    compiled.potential_run.py_func(0, 9, *arguments)
    np.testing.assert_allclose(plain, f, rtol=1e-12, atol=1e-12)


def test_softplus_neither_overflows_nor_loses_small_values():
    assert compiled.softplus(1e3, 10.0) == 1e3
    assert compiled.softplus(-5.0, 10.0) == pytest.approx(np.exp(-50.0) / 10, rel=1e-12)


def test_the_descent_is_torch_s_plug_and_play():
    from relaxon.neuromorphic.proximal.forward.operators import ForwardOperator

    class Dense(ForwardOperator):
        """A matrix."""

        name = "dense"

        def __init__(self, matrix):
            self.matrix, self.input_shape, self.output_shape = matrix, (5,), (4,)

        def _apply(self, x):
            return self.matrix @ x

        def _adjoint(self, y):
            return self.matrix.T @ y

    model = ProximalModel(build_potential(NetworkSettings((5,), hidden=(7, 6), seed=2)), 0.1)
    operator = Dense(RNG.standard_normal((4, 5)))
    b, start, weight = RNG.standard_normal(4), RNG.standard_normal(5), 0.9 / operator.norm**2
    ends = [
        ProximalReference.of(model).descend(operator.matrix, b, weight, 20, start, backend)
        for backend in ("numba", "numpy")
    ]
    torch_end = model.solve(b, operator, data_weight=weight, x0=start, tolerance=1e-300, max_iterations=20).x
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(ends[0], torch_end, rtol=1e-10, atol=1e-12)


def test_a_convolutional_model_has_no_reference():
    model = ProximalModel(build_potential(NetworkSettings((4, 4), "convolutional", hidden=(3,))), 0.1)
    with pytest.raises(ValueError, match="model must have a dense network"):
        ProximalReference.of(model)
