"""Solvers that are set up for one matrix: what `prepare` returns, and how its answers are judged."""
