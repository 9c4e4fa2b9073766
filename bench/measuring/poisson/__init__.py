"""The parts of the benches of Poisson systems on grids."""
