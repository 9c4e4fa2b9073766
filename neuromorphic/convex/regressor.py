"""`ConvexNetworkRegressor`: the best two-layer ReLU network for numbers among those with sampled patterns."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.convex.estimator import ConvexEstimator
from relaxon.neuromorphic.convex.program.losses import SQUARED, ConvexLoss, RobustLoss, SquaredError
from relaxon.neuromorphic.convex.solving.admm import Callback
from relaxon.neuromorphic.parameters import check_choice, store_arguments
from relaxon.neuromorphic.tabular import preparation

Array = NDArray[np.float64]
LARGEST_TARGET = 1e150
"""Targets beyond it have squares that are not finite numbers."""


class ConvexNetworkRegressor(RegressorMixin, ConvexEstimator):  # type: ignore[misc]
    """A two-layer ReLU network trained to the global optimum of a convex program, with a certificate.

    Source: M. Pilanci & T. Ergen, "Neural networks are convex regularizers", ICML 2020; Y. Bai, T. Gautam & S. Sojoudi,
    "Efficient global optimization of two-layer ReLU networks", SIAM J. Math. Data Sci. 2023. The objective is that of a
    network with weight decay, `mean ½ (f(x) − y)² + ½ β Σ_j (‖u_j‖² + α_j²)`, on standardised inputs (with a constant
    column) and targets, over networks whose units have sampled activation patterns.

    Parameters
    ----------
    n_patterns : activation patterns sampled; few rows may have fewer.
    beta : β > 0, the weight decay, relative to the *mean* loss of targets of variance 1. The papers' loss is a sum:
        their β is this one times the number of rows.
    loss : "squared", the only one for numbers.
    program : "patterns", the constrained program; "units", the unconstrained one of the second paper, where
        hidden units are random and only their output weights are trained (a lasso).
    refinements : how often up to `n_patterns` new patterns, at which the dual of all patterns is found violated, join
        the program and those without a unit leave it. 0 is the papers' program; the bounds are the last program's.
        Not used with program="units".
    epsilon : half-width of the box, in the units of the columns, in whose worst point each row's loss is taken
        (adversarial training); 0 for none. A pattern takes part only as far as no point of the boxes changes it, which
        leaves few patterns where ε is not small beside the rows' distances from the units' planes.
    tol : the relative gap between the bounds at which training stops.
    max_iter : iterations of the ADMM at most, for each program.
    largest_factor : rows of the Cholesky factor, the smaller of the rows of the data and patterns times columns, above
        which conjugate gradients solve the ADMM's linear system without a matrix.
    certificate_draws : patterns drawn after training, which the dual is tested with.
    random_state : seed; the same seed gives the same bits.

    Targets with several columns have units of their own each: the penalty of a unit is `‖u_j‖ ‖α_j‖₁`.

    Attributes
    ----------
    network_ : the network, in whose terms predictions are computed.
    certificate_ : bounds of the sampled program's optimum, and the newly drawn patterns' violation of the dual.
    history_ : bounds and residuals at each check.
    outcome_ : how training ended.
    n_iter_ : iterations.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.convex import ConvexNetworkRegressor
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> model = ConvexNetworkRegressor(beta=1e-4, random_state=0).fit(X, np.sin(3 * X[:, 0]))
    >>> model.certificate_.relative_gap <= 1e-4, model.score(X, np.sin(3 * X[:, 0])) > 0.95
    (True, True)
    """

    _outputs: int | None

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

        `callback` sees a `ConvexProgress` every few iterations; where it returns `True`, training ends there.
        """
        self.check_parameters()
        refuse_masks(X=X, y=y, sample_weight=sample_weight)
        x, targets = validate_data(self, X, y, dtype=np.float64, order="C", multi_output=True, y_numeric=True)
        w = self._weights(sample_weight, x)
        if not (w > 0.0).any():
            raise ValueError("sample_weight must leave rows with a weight above 0, got zeros only")
        flat = np.asarray(targets, np.float64).reshape(len(x), -1)
        if np.abs(flat).max() > LARGEST_TARGET:
            raise ValueError(f"y must be at most {LARGEST_TARGET:g} in size, got {np.abs(flat).max():g}")
        self._outputs = flat.shape[1] if np.ndim(targets) == 2 else None
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
        """`(n,)`, or `(n, K)` where the targets had columns."""
        raw = self._raw(X)
        return raw[:, 0] if self._outputs is None else raw

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
