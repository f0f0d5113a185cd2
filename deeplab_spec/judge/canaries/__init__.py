"""Planted faults that every run must refuse: observed by the code, with the inputs and the rule of the run."""
