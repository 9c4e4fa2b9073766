"""Energies, their derivatives, and the checks of their events."""
