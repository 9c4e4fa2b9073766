"""The configuration of the server: settings, where they come from, and the threads of its engines."""
