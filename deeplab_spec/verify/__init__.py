"""Checks a certificate offline, makes it again, and signs it."""
