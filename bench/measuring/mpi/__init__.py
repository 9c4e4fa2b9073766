"""The parts of the benches of several processes."""
