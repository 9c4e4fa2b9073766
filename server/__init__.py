"""The gRPC server: thin adapters from messages to engines, and the runtime around them."""
