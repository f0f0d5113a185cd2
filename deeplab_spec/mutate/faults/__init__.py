"""Single faults: everything that can be wrong with one operator, one connection, one block or one training step.

Mutants, the faults that every run plants, and tests draw from this one catalogue.
"""
