"""Readable PyTorch modules that realise the rows, one file per layer family."""
