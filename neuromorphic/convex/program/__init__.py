"""The convex programs: objective, losses, cones of activation patterns, and linear maps."""
