"""Foreign implementations as networks: builds them, reads their graphs, and runs what was read."""
