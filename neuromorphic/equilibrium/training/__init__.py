"""Training by measured gradients: settings, loop, report, and recipes for the known data sets."""
