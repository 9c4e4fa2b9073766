"""The training loop of an energy: its settings, its hold-out rows and its checkpoints."""
