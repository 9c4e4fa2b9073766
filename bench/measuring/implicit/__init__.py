"""The parts of the benches of implicit differentiation."""
