"""A module that computes the same, faster."""
