"""Training services on the server, one for each training engine, and the models that they train."""
