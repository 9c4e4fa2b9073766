"""Estimators of the gradient at an equilibrium, exact references for them, and their comparison."""
