"""Measures time: processes, pairs, statistics, profiles."""
