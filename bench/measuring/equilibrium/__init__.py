"""The parts of the benches of equilibrium propagation."""
