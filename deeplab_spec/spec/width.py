"""The rule that makes a narrow network of the same shape."""

from typing import Final

BASE_CHANNELS: Final = (32, 48, 64, 128, 256, 728, 1024, 1536, 2048)
"""Every channel count of the network at width 1, ascending; the image and the classes apart."""

SMALLEST: Final = 4
"""No count falls below one more than the image's channels."""


def scaled_channels(width: float) -> dict[int, int]:
    """Map every channel count to its count at another width.

    The rule: multiply, round half up, and raise where needed so that each count exceeds the one
    below it. Counts that differ at width 1 so differ at every width, and a fault that mixes two
    of them stays visible.

    Args:
        width: Multiplier of the channel counts.

    Returns:
        Scaled counts by their counts at width 1.

    >>> list(scaled_channels(1.0).values()) == list(BASE_CHANNELS)
    True
    >>> list(scaled_channels(1 / 32).values())
    [4, 5, 6, 7, 8, 23, 32, 48, 64]
    """
    scaled: dict[int, int] = {}
    least = SMALLEST
    for channels in BASE_CHANNELS:
        scaled[channels] = max(least, int(channels * width + 0.5))
        least = scaled[channels] + 1
    return scaled
