"""Checks ``.pt2`` files before anything is loaded from them."""
