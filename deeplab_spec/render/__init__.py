"""Formatters: data in, text out. Nothing here decides, opens a file or prints."""
