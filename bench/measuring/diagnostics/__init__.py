"""The parts of the benches of diagnostics."""
