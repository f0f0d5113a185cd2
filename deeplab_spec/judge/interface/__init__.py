"""The interface level: which inputs a candidate accepts, and what it returns."""
