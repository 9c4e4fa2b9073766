"""Learning by relaxation: `equilibrium` (equilibrium propagation), `boosting` (gradient-boosted networks).

Importing this package loads nothing heavy; torch and Numba come with the subpackage that needs them.
"""
