"""The process that runs the code of a candidate."""
