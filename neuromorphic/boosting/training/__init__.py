"""The boosting loop: its settings, losses and checkpoints."""
