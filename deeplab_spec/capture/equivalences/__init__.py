"""Passes that read another way of writing an operation as the operation itself."""
