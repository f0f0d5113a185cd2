"""What the network is: choices, variants, rows, clauses and their sources. No framework."""
