"""Markov chain Monte Carlo samplers and their diagnostics."""
