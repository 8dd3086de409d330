"""Count the processor cores that this process may use."""

import os


def usable_cores() -> int:
    """The number of CPU cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # this system does not have the call
        return os.cpu_count() or 1
