"""Handle stop signals, which ask a run to save its work and end."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from dcgan.util.errors import Interrupted


def stop_signals() -> list[int]:
    """The signals that ask a run to save and end: Ctrl-C, SIGTERM and SIGHUP."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, 'SIGHUP', None)
    if hangup and signal.getsignal(hangup) is not signal.SIG_IGN:  # as under nohup
        numbers.append(hangup)
    # None: C code has set the handler, which Python could not restore
    return [number for number in numbers if signal.getsignal(number) is not None]


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal handler that raises Interrupted."""
    raise Interrupted(number)


@contextlib.contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collect stop signals in a list instead of handling them; yield that list.

    A second signal is handled at once. Outside the main thread, which alone can set
    signal handlers, the list stays empty.
    """
    caught = []
    with contextlib.ExitStack() as handlers:

        def catch(number, frame):
            caught.append(number)
            handlers.close()  # restores them

        if threading.current_thread() is threading.main_thread():
            for number in stop_signals():
                handlers.callback(signal.signal, number, signal.getsignal(number))
                signal.signal(number, catch)
        yield caught
