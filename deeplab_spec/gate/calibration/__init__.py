"""The error rates of the gate on one device: pairs are recorded, then resampled."""
