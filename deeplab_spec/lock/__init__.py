"""Records everything a network is in a file, so that later versions can be compared with it."""
