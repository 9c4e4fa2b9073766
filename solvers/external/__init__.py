"""Solvers of other packages behind the interface of this one: PyAMG's hierarchies, SciPy's CG and sparse LU."""
