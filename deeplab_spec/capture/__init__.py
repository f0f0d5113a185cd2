"""Captures foreign implementations: builds them, reads their graphs, and runs the graphs."""
