"""The structure level: the captured graph against the specification, node by node."""
