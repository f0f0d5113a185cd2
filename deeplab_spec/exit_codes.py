"""What the exit status of every command means."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit status of a command."""

    DONE = 0
    """Done, or equal."""
    DIFFERENT = 1
    """Different, not proven, or a check failed."""
    USAGE = 2
    """The arguments do not say what to do."""
    COULD_NOT_RUN = 3
    """A target cannot be imported, built or read."""
    UNDECIDED = 4
    """Nothing failed, but something required is undecided."""
