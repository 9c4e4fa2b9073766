"""Noise distributions: densities that can be sampled and evaluated."""
