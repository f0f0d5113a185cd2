"""The numerics level: values against the oracle in float64, step by step and end to end."""
