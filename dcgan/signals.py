"""Signals that ask a run to save and end."""

import contextlib
import signal
import threading

from dcgan.errors import Interrupted


def stop_signals():
    """The signals that ask a run to save and end: Ctrl-C, SIGTERM, a closed terminal.

    Without those that are ignored, as SIGHUP is under nohup, or that C code handles.
    """
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    return [n for n in numbers if signal.getsignal(n) not in (signal.SIG_IGN, None)]


def interrupt(number, frame):
    """A handler of signals: raise Interrupted."""
    raise Interrupted(number)


@contextlib.contextmanager
def deferred_signals():
    """Give a list to which stop signals are added, instead of what they do.

    A second one does it at once. Elsewhere than in the main thread, which alone gets
    signals, the list stays empty.
    """
    caught = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    handlers = {n: signal.getsignal(n) for n in stop_signals()}

    def restore():
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def catch(number, frame):
        caught.append(number)
        restore()

    for number in handlers:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        restore()
