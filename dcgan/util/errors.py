"""Define the errors that a user can act on, each with a text of one line."""

import re


class UserError(ValueError):
    """An error that the user can fix. Its text is one line that says how.

    Control characters in names of files are escaped in it.
    """

    note: str = ''  # ends the text, for example what was saved before the error

    def __str__(self) -> str:
        return escape('; '.join(filter(None, [super().__str__(), self.note])))


class Interrupted(KeyboardInterrupt):
    """A signal has asked the program to stop. The text tells what has been saved."""

    number: int  # of the signal, for example signal.SIGTERM

    def __init__(
        self, number: int, text: str = 'interrupted; everything saved before is kept'
    ):
        super().__init__(escape(text))
        self.number = number


# of terminals, of lines and of directions of writing
CONTROL = re.compile('[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]')
# lines that come before the one that tells
HEADING = re.compile(r'.*:$|\d+ root error|<stack traces|File "')


def escape(text: str, keep: str = '') -> str:
    """Write control characters, which move the cursor or turn text, as escapes."""
    found = {*CONTROL.findall(text)} - {*keep}
    table = {ord(char): char.encode('unicode_escape').decode() for char in found}
    return text.translate(table)


def printable(text: object) -> str:
    """Convert a text, such as a file name, to one line that any terminal can print."""
    line = ' '.join(str(text).encode('ascii', 'backslashreplace').decode().split())
    return escape(line)


def short_reason(error: BaseException) -> str:
    """The most informative line of an error of the operating system or TensorFlow."""
    text = getattr(error, 'strerror', None) or str(error)
    texts = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in texts if not HEADING.match(line)] or texts
    # TensorFlow prints the message in the line after the name of the failed node
    nodes = [i for i, line in enumerate(lines[:-1]) if line.startswith("Node: '")]
    return lines[nodes[-1] + 1] if nodes else (lines or [type(error).__name__])[0]
