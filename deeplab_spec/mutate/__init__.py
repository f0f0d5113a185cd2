"""Wrong networks, one fault each: what a judge must refuse."""
