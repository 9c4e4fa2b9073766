"""The parts of the benches of sparse matrices."""
