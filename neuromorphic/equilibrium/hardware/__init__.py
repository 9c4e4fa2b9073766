"""Networks on hardware: the limits of a device, netlists for SPICE, and a circuit's operating point."""
