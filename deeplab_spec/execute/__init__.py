"""Runs any network, with every intermediate value by path."""
