"""The parts of the benches of boosted networks."""
