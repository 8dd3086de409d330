"""Errors that the user can do something about, in one line each."""


class UserError(ValueError):
    """A mistake that only the user can mend, in one line that names the way out."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came: `number`. The text says what became of the work."""

    def __init__(self, number, text='interrupted; what was saved before is kept'):
        super().__init__(text)
        self.number = number


def printable(text):
    """A text that may hold names of files, on one line that any terminal can show."""
    return ' '.join(str(text).encode('ascii', 'backslashreplace').decode().split())


def short_reason(error):
    """The line that matters of what the system or TensorFlow says of an error."""
    text = getattr(error, 'strerror', None) or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    nodes = [i for i, line in enumerate(lines[:-1]) if line.startswith("Node: '")]
    return lines[nodes[-1] + 1] if nodes else (lines or [type(error).__name__])[0]
