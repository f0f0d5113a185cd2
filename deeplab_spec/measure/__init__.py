"""Modes in which a network runs, whether they agree, and timers."""
