"""The parts of the benches of energy-based models."""
