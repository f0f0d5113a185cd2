"""Foreign implementations as networks: builds them, reads their graph, runs what was read."""
