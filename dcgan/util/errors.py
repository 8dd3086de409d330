"""Define the errors that a user can act on, each with a text of one line."""

import re

# what stands before the line that tells: titles, traces, the number of an error
HEADINGS = re.compile(
    r'(?m)^( *)File ".*\n(?:\1 +\S.*\n)*|^\s*\(\d+\) [A-Z_ ]+: |\x1b\[[\d;]*m|'
    r'^.*:$|^(?:Node: |\d+ root error|<stack trace|Exception encountered).*$'
)


class UserError(ValueError):
    """An error that the user can fix. Its text is one line that says how."""

    note: str = ''  # ends the text, for example what was saved before the error

    def __str__(self) -> str:
        return escape('; '.join(filter(None, [super().__str__(), self.note])))


class Interrupted(KeyboardInterrupt):
    """A signal has asked the program to stop. The text tells what has been saved."""

    def __init__(self, number, text='interrupted; everything saved before is kept'):
        super().__init__(escape(text))
        self.number = number  # of the signal, for example signal.SIGTERM


def escape(text: str) -> str:
    """Write what would steer a terminal or end the line as escapes, as repr does."""
    return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable(text: object) -> str:
    """Convert a text, such as a file name, to one line that any terminal can print."""
    text = str(text).encode('ascii', 'backslashreplace').decode()
    return escape(' '.join(text.split()))


def short_reason(error: BaseException) -> str:
    """The most informative line of an error of the operating system or TensorFlow."""
    text = getattr(error, 'strerror', None) or str(error)
    told = HEADINGS.sub('', text).strip() or text.strip() or type(error).__name__
    return told.splitlines()[0].rstrip()
