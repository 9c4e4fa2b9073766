"""Training jobs on the server: their database, their processes, the models that they leave."""
