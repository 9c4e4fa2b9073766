"""Learning by relaxation: equilibrium propagation, energy-based models, boosted networks (not in this release)."""
