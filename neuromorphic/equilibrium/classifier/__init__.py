"""The scikit-learn classifier: estimator, the network that its parameters describe, and storage."""
