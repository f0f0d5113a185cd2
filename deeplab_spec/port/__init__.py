"""Moves weights from one implementation to another, and proves that both compute the same function."""
