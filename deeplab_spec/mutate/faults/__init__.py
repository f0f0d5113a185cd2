"""Single faults: every way in which one node, one connection or one training step can be wrong."""
