"""Read tables of text, whatever program has saved them."""

import codecs
import collections
import contextlib
import csv
import io
import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import TypeVar

from dcgan.util.errors import printable

T = TypeVar('T')
SEPARATORS = ',;\t| '  # the last one stands for any number of spaces
SAMPLE = 50  # rows that tell the separator and what the columns hold
MAX_BYTES = 1 << 28  # of a table
MAX_LINE = 1 << 17  # characters of a line; cells take much more memory than that
IMAGE_HEADS = ['filename', 'file', 'image', 'image_id', 'path', 'name', 'id']
WORD_ENDS = re.compile('(?<=[a-z])(?=[A-Z])|[^a-zA-Z]')  # of ImageId, file_name
LABEL_HEADS = ['label', 'labels', 'class', 'category']
INDEX_HEADS = ['', 'id', 'index', 'unnamed: 0']  # of the numbers of rows
NUMBER = re.compile(r'[-+.,\d]+(e[-+]?\d+)?|nan|-?inf', re.IGNORECASE)
# bytes that are not UTF-8 are in the code page of Windows, in which Excel saves
codecs.register_error(
    'windows', lambda e: (e.object[e.start : e.end].decode('cp1252', 'replace'), e.end)
)


def composed(text: str) -> str:
    """A text with composed letters, as most systems but macOS write them.

    Bytes in it that are not UTF-8 are read as in tables.
    """
    text = os.fsencode(text).decode('utf-8', 'windows')
    return unicodedata.normalize('NFC', text)


class Table:
    """A table; iterating gives its rows, lists of cells, without blank ones.

    header: the names of its columns, '' for one without. count: the number alone in a
    row above, where titles may be, or None. images: the column of images, by what it
    holds or by its name. others: those of something else, but not of row numbers.
    """

    def __init__(self, content: bytes):
        has_mark = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        is_wide = content[1:2] == b'\0'
        self._encoding = f'utf-{"16" if has_mark else "16-le" if is_wide else "8"}'
        self._content = content
        self._quote = "'" if re.match(rb"[^\w'\"]{0,3}'[^'\n]*'\W", content) else '"'
        self._separator = max(SEPARATORS, key=self._fit)
        rows = self._sample(self._separator)
        # alone in a row may be the count and, above several columns, a title
        alone = ['number', 'word'][: len(kinds(rows))]
        is_above = [kind(row[0]) in alone and not any(row[1:]) for row in rows]
        above = rows[: [*is_above, False].index(False)]
        counts = map(int, filter(str.isdecimal, itertools.chain(*above)))
        self.count, rows = next(counts, None), rows[len(above) :]
        header = rows.pop(0) if rows and is_header(rows[0], kinds(rows[1:])) else []
        self._skipped, held = len(above) + bool(header), kinds(rows)
        width = self._width = len(held)
        # CelebA's lists have no name for the column of images; Excel adds '' at the end
        is_padded = header[-1:] == [''] and held[-1:] != [set()]
        if is_padded and header[0].lower() not in ['', *IMAGE_HEADS]:
            header.pop()
        self.header = [''] * (width - len(header)) + header
        words = [WORD_ENDS.sub(' ', name).lower().split() for name in self.header]
        own = [i for i in range(width) if not {*LABEL_HEADS} & {*words[i]}]
        found = [i for i in range(width) if held[i] == {'file'}]
        found += [i for name in IMAGE_HEADS for i in own if name in words[i]]
        has_index = width > 2 and self.header[0].lower() in INDEX_HEADS
        self.images = [*found, int(has_index and len(header) == width)][0]
        start = int(has_index and self.images > 0)
        self.others = [i for i in range(start, width) if held[i] and i != self.images]

    def __iter__(self) -> Iterator[list[str]]:
        return itertools.islice(self._rows(self._separator), self._skipped, None)

    def records(
        self, columns: list[int], convert: Callable[[list[str]], T]
    ) -> Iterator[T]:
        """Yield convert(cells of columns) of each row; ValueError shows a bad row."""
        number, row = self._skipped, []
        try:
            for row in self:
                number += 1
                if any(row[self._width :]):
                    raise ValueError('it has too many cells')
                yield convert([row[i] for i in columns])
        except (ValueError, IndexError, csv.Error) as error:
            where = 'after row' if isinstance(error, csv.Error) else 'row'
            text = printable(self._separator.join(row))[:60]
            raise ValueError(f'{where} {number}, {text!r}') from error

    def _rows(self, separator):
        content = io.BytesIO(self._content)
        file = io.TextIOWrapper(content, self._encoding, 'windows', newline='')
        lines = map(clean_line, file)
        if separator == ' ' and self._quote.encode() not in self._content:
            return filter(None, map(str.split, lines))  # faster
        style = {'delimiter': separator, 'quotechar': self._quote}
        rows = csv.reader(lines, skipinitialspace=True, **style)
        return filter(any, ([cell.strip() for cell in row] for row in rows))

    def _sample(self, separator):
        rows = []
        with contextlib.suppress(csv.Error):  # what is above the error is kept
            rows.extend(itertools.islice(self._rows(separator), SAMPLE))
        return rows

    def _fit(self, separator):
        """How well a separator fits: by the rows of one width; then tabs go first."""
        widths = collections.Counter(map(len, self._sample(separator)))
        same = max((n for width, n in widths.items() if width > 1), default=0)
        place = self._content.find(separator.encode())
        return same, separator == '\t', separator != ' ', -place


def clean_line(line: str) -> str:
    """A line without byte order marks, which joined files have inside, too."""
    if len(line) > MAX_LINE:
        raise csv.Error(f'a line has more than {MAX_LINE:,} characters')
    return line.lstrip('\ufeff')


def kinds(rows: list[list[str]]) -> list[set[str]]:
    """What each column holds, see `kind`, of as many columns as most rows have."""
    widths = collections.Counter(map(len, rows))
    width = max(widths, key=lambda n: (widths[n], n), default=0)
    columns = itertools.zip_longest(*rows, fillvalue='')
    return [{kind(cell) for cell in cells if cell} for cells in columns][:width]


def kind(cell: str) -> str:
    """'file', by its extension, 'number' or 'word'."""
    if re.search(r'[^.\s]\.[^\W\d_]\w{1,4}$', cell):
        return 'file'
    return 'number' if NUMBER.fullmatch(cell) else 'word'


def is_header(cells: list[str], below: list[set[str]]) -> bool:
    """Whether a first row names columns, by itself and by what the rows below hold."""
    own = [kind(cell) for cell in cells]
    if 'file' in own:
        return False
    is_known = {cell.lower() for cell in cells} & {*IMAGE_HEADS, *LABEL_HEADS}
    differs = ('word', {'number'}) in zip(own, below)
    return differs or {'file'} in below or bool(is_known)
