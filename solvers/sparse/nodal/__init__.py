"""Smoothed aggregation over nodes of several unknowns, such as those of elastic bodies."""
