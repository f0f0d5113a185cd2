"""The boundary to foreign code: the process that runs a candidate, and this side of the wire."""
