"""Tables: reading them, categories and rows for every estimator that learns from a table."""
