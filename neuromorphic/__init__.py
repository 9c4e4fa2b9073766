"""Learning by relaxation: `equilibrium` (equilibrium propagation), `boosting` (gradient-boosted networks), `energy`
(energy-based models); `diagnostics` shows how a training treats its rows.

Importing this package loads nothing heavy; torch and Numba are imported by the subpackages that need them.
"""
