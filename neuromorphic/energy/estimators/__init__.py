"""The scikit-learn estimators of densities."""
