"""How fast a network runs in every mode, side by side on one device."""
