"""The automatic choice of a solver for a matrix: costs, estimates, and the methods that take over from slow ones."""
