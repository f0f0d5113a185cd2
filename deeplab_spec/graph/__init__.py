"""Networks as data: operators, nodes, and the graph that they form. No framework."""
