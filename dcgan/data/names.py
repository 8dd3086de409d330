"""Match the names in a list with the images of a folder, however both are spelled."""

import collections
import functools
import os
import posixpath
import unicodedata
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import unquote

from PIL import Image

from dcgan.util.errors import UserError, printable
from dcgan.util.files import relative_path
from dcgan.util.output import print_line
from dcgan.util.tables import composed

T = TypeVar('T')


def normal_form(path: str) -> str:
    """One spelling of a path: with composed letters, and / between folders."""
    return posixpath.normpath(composed(path).replace('\\', '/'))


def loose_form(form: str, parts: int = 0) -> str:
    """The last parts (0: all) of a normal form, in lower case, without an extension.

    Kinds of one sign, such as of spaces, are one, and %20 is what it stands for.
    """
    form = unicodedata.normalize('NFKC', unquote('/'.join(form.split('/')[-parts:])))
    stem, extension = os.path.splitext(form.casefold())
    known = Image.registered_extensions()
    return (stem if extension in known else stem + extension).strip()


def match_rows(
    files: Sequence[str], folder: str, rows: dict[str, T], source: str
) -> list[T | None]:
    """The row of each image, of {name in the list `source`: row}; None if it has none.

    A name is a path from `folder`, or the name of a file, with or without extension; if
    none is, the ends of paths count. Prints what has no partner. Raises UserError if a
    name may mean two images, if an image has two rows, or if none has a row.
    """
    images = {path: normal_form(relative_path(path, folder)) for path in files}
    names = {name: normal_form(name) for name in rows}
    real = functools.cache(lambda head: normal_form(os.path.realpath(head)))
    heads = {real(head): head for head in map(os.path.dirname, files)}
    for name in filter(os.path.isabs, names):
        head, tail = os.path.split(name.replace('\0', ''))
        if own := heads.get(real(head)):  # also where links lead to it
            path = os.path.join(own, tail)
            names[name] = normal_form(relative_path(path, folder))
    partners = {}  # {path of an image: name in the list}

    def pair(key_of_image: Callable[[str], str], key_of_name: Callable[[str], str]):
        """Make partners of what is left and has the same key."""
        paths, same = collections.defaultdict(list), collections.defaultdict(list)
        for path, form in images.items():
            paths[key_of_image(form)].append(path)
        for name, form in names.items() if images else ():
            same[key_of_name(form)].append(name)
        for key in [key for key in same if key in paths]:
            one, both = same[key][0], [images[path] for path in paths[key]]
            if len({rows[name] for name in same[key]}) > 1:
                one, both = both[0], same[key]
            if len(both) > 1:
                text = '{} may be {} or {}'.format(*map(printable, [one, *both]))
                raise UserError(f'{source}: {text}; give their paths from {folder}')
            partners[paths[key][0]] = one
            del images[paths[key][0]]
            for name in same[key]:
                del names[name]

    pair(str, str)
    pair(loose_form, loose_form)
    pair(functools.partial(loose_form, parts=1), loose_form)  # of names without folders
    if not partners:
        depth = max([0, *(form.count('/') for form in images.values())])
        for parts in range(depth + 1, 0, -1):
            pair(*2 * [functools.partial(loose_form, parts=parts)])
        for path, name in [*partners.items()][:1]:
            text = f'{printable(name)} is {printable(path)}'
            print_line(f' [!] {source}: names match by their ends only: {text}')
    lines, without = [], f'images have no row in {source}'
    for left, of, what in (images, files, without), (names, rows, 'rows have no image'):
        if left:
            example = printable(next(iter(left.values())))
            lines.append(f'{len(left)} of {len(of)} {what}, such as {example}')
    if images and not partners:
        raise UserError(f'{folder}: {"; ".join(lines)}')
    if lines:
        print_line(f' [{"!" if images else "*"}] {folder}: {"; ".join(lines)}')
    return [rows[partners[path]] if path in partners else None for path in files]
