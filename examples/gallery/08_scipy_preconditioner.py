"""A preconditioner for SciPy: keep your own Krylov loop.

`grid.preconditioner()` is a symmetric multigrid V-cycle with learned constants, as a `LinearOperator`. It goes into
SciPy's conjugate gradients, and into every other method that takes an `M`.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse import diags_array
from scipy.sparse.linalg import cg

from relaxon.solvers import gallery

problem = gallery.make("spheres", 32)  # a box with spherical obstacles, and a right-hand side
A = problem.grid.operator().to_csr()
b = problem.grid.pack(problem.b)  # the unknowns alone, as a vector
preconditioners = {
    "none": None,
    "diagonal": diags_array(1 / A.diagonal()),
    "V-cycle, learned constants": problem.grid.preconditioner(),
}

figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for name, M in preconditioners.items():
    history = [1.0]

    def record(x, history=history):
        history.append(np.linalg.norm(b - A @ x) / np.linalg.norm(b))

    _, info = cg(A, b, M=M, rtol=1e-8, callback=record)
    print(f"{name}: info {info}, {len(history) - 1} iterations")
    axes.semilogy(history, label=name)
axes.set(xlabel="iteration of scipy.sparse.linalg.cg", ylabel="relative residual")
axes.legend()
plt.show()
