"""The parts of the benches of convex networks."""
