"""Judges an implementation level by level, and writes the certificate."""
