"""The precision level: errors in lower precisions against those of the reference."""
