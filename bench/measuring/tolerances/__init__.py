"""The parts of the benches of the stopping tests of other libraries."""
