"""Finds the published network and the choices that a network implements."""
