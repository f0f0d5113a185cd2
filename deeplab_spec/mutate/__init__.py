"""Wrong networks with one fault each, and equal networks written differently."""
