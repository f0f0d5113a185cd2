"""The script whose speed is measured; it is started by its path, and imports torch and the standard library only."""
