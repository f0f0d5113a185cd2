"""Rewrites: published networks written differently, which are the same function and must be accepted."""
