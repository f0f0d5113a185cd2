"""Which published network, with which choices, a network is."""
