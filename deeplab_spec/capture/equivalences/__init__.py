"""equivalences."""
