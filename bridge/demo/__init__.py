"""A play-money token and a chain to keep it on, so that the demo and the tests need neither a node nor a network."""
