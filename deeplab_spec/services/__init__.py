"""What combines the floors below: counts of targets, benchmarks, the gate, optimized networks."""
