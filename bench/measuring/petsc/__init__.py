"""The parts of the benches of PETSc."""
