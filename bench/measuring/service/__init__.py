"""The parts of the benches of the service."""
