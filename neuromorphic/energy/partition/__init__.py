"""Estimators of the log partition function."""
