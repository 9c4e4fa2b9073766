"""`ConvexNetworkRegressor`: regression by the optimal two-layer ReLU network with sampled activation patterns."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.convex.estimator import ConvexEstimator
from relaxon.neuromorphic.convex.program.losses import SQUARED, ConvexLoss, RobustLoss, SquaredError
from relaxon.neuromorphic.convex.solving.admm import Callback
from relaxon.neuromorphic.parameters import check_choice, store_arguments
from relaxon.neuromorphic.table_estimators import TableRegressor, read_table
from relaxon.neuromorphic.tabular import preparation

Array = NDArray[np.float64]


class ConvexNetworkRegressor(TableRegressor, ConvexEstimator):
    """A two-layer ReLU network trained to the global optimum of a convex program, with a certificate.

    Source: M. Pilanci & T. Ergen, "Neural networks are convex regularizers", ICML 2020; Y. Bai, T. Gautam & S. Sojoudi,
    "Efficient global optimization of two-layer ReLU networks", SIAM J. Math. Data Sci. 2023. The objective is that of a
    network with weight decay, `mean ½ (f(x) − y)² + ½ β Σ_j (‖u_j‖² + α_j²)`, for standardised inputs (with a constant
    column) and targets. It is minimised over networks whose units have sampled activation patterns.

    Parameters
    ----------
    n_patterns : number of sampled activation patterns; a few rows may have fewer.
    beta : β > 0, the weight decay, relative to the *mean* loss of targets of variance 1. The papers' loss is a sum:
        their β is this one times the number of rows.
    loss : "squared", the only loss for regression.
    program : "patterns" for the constrained program; "units" for the unconstrained program of the second paper, in
        which hidden units are random and only their output weights are trained (a lasso).
    refinements : number of rounds in which up to `n_patterns` new patterns that violate the dual join the program and
        patterns without a unit leave it. 0 gives the papers' program; the bounds are those of the last program. Not
        used with program="units".
    epsilon : half-width, in the units of the columns, of the box over which the loss of each row is maximised
        (adversarial training); 0 for none. A pattern can only be used as far as no point of the boxes changes it, which
        leaves few patterns unless ε is small compared to the rows' distances from the units' hyperplanes.
    tol : relative gap between the bounds at which training stops.
    max_iter : maximum number of ADMM iterations for each program.
    largest_factor : largest number of rows of the Cholesky factor, which is the smaller of the number of rows of the
        data and patterns times columns. Above it, conjugate gradients solve the ADMM's linear system without a matrix.
    certificate_draws : number of patterns drawn after training to test the dual.
    random_state : seed; the same seed gives the same bits.

    With several target columns, each has its own units: the penalty of a unit is `‖u_j‖ ‖α_j‖₁`.

    Attributes
    ----------
    network_ : the trained network.
    certificate_ : bounds on the sampled program's optimum, and the violation of the dual by newly drawn patterns.
    history_ : bounds and residuals at each check.
    outcome_ : how training ended.
    n_iter_ : number of iterations.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.convex import ConvexNetworkRegressor
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> model = ConvexNetworkRegressor(beta=1e-4, random_state=0).fit(X, np.sin(3 * X[:, 0]))
    >>> model.certificate_.relative_gap <= 1e-4, model.score(X, np.sin(3 * X[:, 0])) > 0.95
    (True, True)
    """

    def __init__(
        self,
        n_patterns: int = 100,
        *,
        beta: float = 1e-2,
        loss: Literal["squared"] = "squared",
        program: Literal["patterns", "units"] = "patterns",
        refinements: int = 3,
        epsilon: float = 0.0,
        tol: float = 1e-4,
        max_iter: int = 5000,
        largest_factor: int = 8192,
        certificate_draws: int = 100,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        store_arguments(self, locals())

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, callback: Callback | None = None
    ) -> Self:
        """Train on `X` (n, d) and `y` (n,) or (n, K).

        `callback` is called with a `ConvexProgress` every few iterations; training ends where it returns `True`.
        """
        self.check_parameters()
        refuse_masks(sample_weight=sample_weight)
        x, targets = read_table(self, X, y, dtype=np.float64, order="C", multi_output=True, y_numeric=True)
        w = self._scale_weights(sample_weight, x)
        if not (w > 0.0).any():
            raise ValueError("sample_weight must have entries above 0, got zeros only")
        flat, self._outputs = self._flatten_targets(targets)
        x, flat, w = preparation.merge_rows(x, flat, w)
        shift, scale = preparation.find_standardisation(flat, w)
        unit = np.divide(1.0, scale, out=np.ones_like(scale), where=scale > 0.0)
        standard = np.where(scale > 0.0, (flat - shift) / unit, 0.0)
        plain = SquaredError(np.ascontiguousarray(standard))
        loss: ConvexLoss = RobustLoss(plain, SQUARED) if self.epsilon > 0.0 else plain
        self._train(x, w, loss, shift, unit, callback)
        return self

    def check_parameters(self) -> None:
        super().check_parameters()
        check_choice("loss", self.loss, ("squared",))

    def predict(self, X: ArrayLike) -> Array:
        """Return predictions `(n,)`, or `(n, K)` where the targets had columns."""
        return self._shape_output(self._predict_raw(X))
