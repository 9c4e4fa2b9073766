import numpy as np
import pytest

from relaxon.solvers import PoissonGrid


@pytest.mark.parametrize("shape", [(5, 7), (4, 5, 6), (1, 9), (3, 1, 2)])
@pytest.mark.parametrize("bc", ["neumann", "dirichlet", "periodic", None])
@pytest.mark.parametrize("var", [0, 1])
def test_csr(shape, bc, var):
    rng = np.random.default_rng(0)
    c = rng.choice(3, size=shape, p=[0.7, 0.2, 0.1]).astype(np.uint8)
    c.flat[0] = 0
    b = bc or [("dirichlet", "neumann")] * len(shape)
    g = PoissonGrid(
        c,
        spacing=rng.uniform(0.5, 2, len(shape)),
        boundary=b,
        coefficient=rng.uniform(0.1, 10, shape) if var else None,
    )
    A = g.operator()
    M = A.to_csr()
    assert abs(M - M.T).max() < 1e-12
    x = rng.standard_normal(g.unknowns)
    np.testing.assert_allclose(A.matvec(x), M @ x, atol=1e-12)
    ns = g.nullspace
    assert ns.dimension == np.sum(np.linalg.eigvalsh(M.toarray()) < 1e-9)
    np.testing.assert_allclose(A.constant, not var)
    e = g.operator(np.float32).matvec(x)
    assert e.dtype == np.float32
