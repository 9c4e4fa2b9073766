"""The scikit-learn estimators and ensembles of them."""
