"""Judges an implementation: plans the cases, runs it apart, and signs what the checks decide."""
