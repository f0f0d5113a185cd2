"""Numbers of a network, by arithmetic on its graph. No framework."""
