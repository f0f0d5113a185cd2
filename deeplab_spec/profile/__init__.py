"""Where the time of a step goes, block by block, and how two profiles differ."""
