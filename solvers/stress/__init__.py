"""Random difficult systems, solved and judged by a residual that is computed independently of the solvers."""

from relaxon.solvers.stress.cases import Case, make_case
from relaxon.solvers.stress.matrix_cases import MatrixCase, make_matrix_case
from relaxon.solvers.stress.matrix_residual import MatrixResidual, matrix_residual
from relaxon.solvers.stress.matrix_trial import (
    MatrixTrial,
    MatrixTrialSettings,
    Regret,
    measure_regret,
    run_matrix_trial,
)
from relaxon.solvers.stress.trial import Trial, TrialSettings, assembled, run_trial

__all__ = [
    "Case",
    "MatrixCase",
    "MatrixResidual",
    "MatrixTrial",
    "MatrixTrialSettings",
    "Regret",
    "Trial",
    "TrialSettings",
    "assembled",
    "make_case",
    "make_matrix_case",
    "matrix_residual",
    "measure_regret",
    "run_matrix_trial",
    "run_trial",
]
