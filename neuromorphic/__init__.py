"""Learning by relaxation: `equilibrium` (equilibrium propagation), `boosting` (gradient-boosted networks), `energy`
(energy-based models); `diagnostics` says what a training makes of its rows.

Importing this package loads nothing heavy; torch and Numba come with the subpackage that needs them.
"""
