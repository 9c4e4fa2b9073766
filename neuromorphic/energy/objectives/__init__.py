"""Objectives that train an energy."""
