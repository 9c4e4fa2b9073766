"""Random Poisson systems of every awkward kind, solved and judged by a residual that the solvers have no part in."""

from relaxon.solvers.stress.assembly import assembled
from relaxon.solvers.stress.cases import Case, make_case
from relaxon.solvers.stress.trial import Trial, TrialSettings, run_trial

__all__ = ["Case", "Trial", "TrialSettings", "assembled", "make_case", "run_trial"]
