"""One decision per clause: evidence in, findings out. Nothing here formats, nothing here runs a network."""
