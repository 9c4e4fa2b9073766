"""Training of proximal operators: proximal matching, polishing, and recipes for the known data sets."""
