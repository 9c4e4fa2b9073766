"""A Hermitian matrix as a real symmetric one of twice its size, each entry a block `[[Re, −Im], [Im, Re]]`."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

import numpy as np

from relaxon.solvers.sparse.system.matrix_system import MatrixSystem


def real_form(system: MatrixSystem) -> MatrixSystem:
    """Return the system on pairs of real and imaginary parts, which has the Hermitian one's eigenvalues, each twice.

    Its kind is "spd" where the diagonal and the 2 × 2 minors allow it, else "symmetric-indefinite".
    """
    from scipy.sparse import bsr_array

    a = system.matrix
    blocks = np.empty((a.nnz, 2, 2))
    blocks[:, 0, 0] = blocks[:, 1, 1] = a.data.real
    blocks[:, 1, 0] = a.data.imag
    blocks[:, 0, 1] = -a.data.imag
    n = 2 * system.unknowns
    form = bsr_array((blocks, a.indices, a.indptr), shape=(n, n)).tocsr()
    form.eliminate_zeros()
    return MatrixSystem.of(form)
