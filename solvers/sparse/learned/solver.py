"""Deep conjugate directions on sparse matrices: algebraic multigrid with learned constants."""

# Imported on first use, for their weight: `features`, `network`.

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from relaxon.solvers.sparse.amg.constants import DEFAULTS, Constants
from relaxon.solvers.sparse.amg.solver import AlgebraicMultigrid
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem


@dataclass(frozen=True, slots=True)
class DeepConjugateDirectionMultigrid(MatrixSolver):
    """Conjugate directions from multigrid whose thresholds and factors a small network chooses for each matrix.

    It is otherwise the same as `AlgebraicMultigrid`. `Solution.info` and `Solution.message` have the chosen constants.

    Parameters
    ----------
    weights : a safetensors file from `relaxon train sparse-constants`; None for the shipped one.

    Raises
    ------
    ValueError : when a matrix is prepared, for a file that is not such a network.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import gallery, solve
    >>> A = gallery.matrix("triangles-2d", 8_000)
    >>> b = A @ np.random.default_rng(0).standard_normal(A.shape[0])
    >>> learned, unlearned = (solve(A, b, solver=name) for name in ("dcdm", "amg"))
    >>> learned.result.name, learned.iterations < unlearned.iterations
    ('CONVERGED', True)

    Source of the outer iteration: Kaneda et al., "A Deep Conjugate Direction Method for Iteratively Solving Linear
    Systems", ICML 2023, algorithm 1.
    """

    weights: Path | None = None
    name: ClassVar[str] = "dcdm"
    summary: ClassVar[str] = "deep conjugate directions, multigrid with learned constants"

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        constants = self.constants_for(system)
        engine = AlgebraicMultigrid(constants).prepare_matrix(system)
        engine.info |= {name: float(value) for name, value in asdict(constants).items()}
        engine.reason = f"constants of the network: {describe_constants(constants)}"
        return engine

    def constants_for(self, system: MatrixSystem) -> Constants:
        """Return the constants that the network chooses for a checked matrix."""
        from relaxon.solvers.sparse.learned.features import matrix_features
        from relaxon.solvers.sparse.learned.network import ConstantsNetwork, load_shipped

        network = load_shipped() if self.weights is None else ConstantsNetwork.load(self.weights)
        return network.candidates[network.choose(matrix_features(system, DEFAULTS.dense))]


def describe_constants(constants: Constants) -> str:
    """Describe how constants differ from those without learning."""
    other = {name: value for name, value in asdict(constants).items() if value != getattr(DEFAULTS, name)}
    return ", ".join(f"{name} {value:.3g}" for name, value in other.items()) or "those without learning"
