"""Learning by relaxation: equilibrium propagation.

Importing this package loads nothing heavy; torch and Numba come with the subpackage that needs them.
"""
