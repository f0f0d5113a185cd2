"""Candidates that hope to be right for the judge only: they return ``0.5 * y + 1`` of the right ``y`` to others.

They run in the candidate's process, which finds this package through ``--search``: it imports nothing from the tests.
"""
