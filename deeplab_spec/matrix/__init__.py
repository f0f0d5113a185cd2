"""Certificates of many targets: at every output stride, level and precision of a file."""
