"""Reads exported programs: the calls of a framework, as nodes of a network."""
