"""Which node of one network is which node of another, and what differs. No framework."""
