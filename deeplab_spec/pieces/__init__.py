"""Runs that are cut into pieces: shards of equal cost, folders of finished pieces, their union, a Ray cluster."""
