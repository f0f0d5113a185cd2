"""The rows of each backbone family, one file a family."""
