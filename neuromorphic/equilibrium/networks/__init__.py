"""Networks of relaxing units: what every network offers, the forms there are, bounds on their weights, storage."""
