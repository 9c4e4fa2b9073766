"""Fitting one stage: a few units and their outputs to the residual."""
