"""Whether one version of a network is slower than another: a sequential test with known error rates."""
