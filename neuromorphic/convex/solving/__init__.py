"""Solution of the convex programs: ADMM, its linear systems, new patterns, and certificates."""
