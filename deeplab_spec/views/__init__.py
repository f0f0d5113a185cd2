"""Shared by all features: the base of documents, tables, templates, files and progress."""
