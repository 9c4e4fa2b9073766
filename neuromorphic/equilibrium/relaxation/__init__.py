"""Relaxation of states to equilibrium: the relaxers, the phases of a measurement, and how rates are read."""
