"""Modes in which a network runs, whether they agree with the module, and measurements of a device."""
