"""Which files of a folder are the images of a data set."""

import collections
import os
import re
from collections.abc import Iterable, Sequence

from PIL import Image

from dcgan.errors import UserError
from dcgan.files import glob_files, relative_path

IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp')
# files and folders that no one means as images: hidden ones, and those of systems
JUNK = re.compile(r'(^|/)(\.|__MACOSX(/|$)|Thumbs\.db$|desktop\.ini$)', re.IGNORECASE)


def find_images(
    folder: str, pattern: str | None, classes: Iterable[str] | None = None
) -> list[str]:
    """Sorted paths of the image files of a data set; prints what it had to choose.

    pattern  a glob in the folder; None: the default_images of the folder
    classes  names of class folders, to search instead of the folder itself

    Raises UserError if there is no such file.
    """
    if not pattern:
        folders = [os.path.join(folder, name) for name in classes or ()] or [folder]
        files = [path for parent in folders for path in default_images(parent)]
    else:
        if classes and '/' not in pattern:
            pattern = f'*/{pattern}'
        files = without_junk(folder, glob_files(folder, any_case(pattern)))
    if not files:
        raise UserError(
            f'{folder}: no file matches {pattern or "*.jpg"!r}{suggest_pattern(folder)}'
        )
    return sorted(files)


def any_case(pattern: str) -> str:
    """A glob that also matches its extension in other cases: *.JPG for *.jpg."""

    def both_cases(match):
        return ''.join(f'[{c.lower()}{c.upper()}]' for c in match[0])

    return re.sub(r'(?<=\.)[a-zA-Z]+$', both_cases, pattern)


def without_junk(folder: str, files: Sequence[str]) -> list[str]:
    """The files, without those that systems leave in folders; prints how many."""
    kept = [
        path
        for path in files
        if not JUNK.search(relative_path(path, folder).replace(os.sep, '/'))
    ]
    if len(kept) < len(files):
        count = len(files) - len(kept)
        print(f' [*] {folder}: {count} files of the system are left out', flush=True)
    return kept


def default_images(folder: str) -> list[str]:
    """The *.jpg files of a folder or, if there are none, all with IMAGE_EXTENSIONS.

    Prints which other images it uses or ignores.
    """
    images = [
        path
        for path in glob_files(folder, '*')
        if path.lower().endswith(IMAGE_EXTENSIONS)
    ]
    files = [path for path in images if path.lower().endswith('.jpg')] or images
    others = count_extensions(p for p in images if not p.lower().endswith('.jpg'))
    if others and files is images:
        print(f' [*] {folder}: no *.jpg files, so {others} are used', flush=True)
    elif others:
        print(
            f' [!] {folder}: only *.jpg files are used, not {others}; for all files, '
            "set --input_fname_pattern '*'",
            flush=True,
        )
    return files


def count_extensions(paths: Iterable[str]) -> str:
    """How many files have each extension, for example '3 *.png, 1 *.bmp'."""
    counts = collections.Counter(f'*{os.path.splitext(path)[1]}' for path in paths)
    return ', '.join(f'{n} {pattern}' for pattern, n in counts.most_common())


def suggest_pattern(folder: str) -> str:
    """The end of an error message: the images in a folder, and a pattern for them."""
    counts, known = collections.Counter(), Image.registered_extensions()
    for path, _, names in os.walk(folder):
        extensions = [os.path.splitext(name)[1] for name in names]
        nested = '' if path == folder else '**/'
        counts.update(f'{nested}*{e}' for e in extensions if e.lower() in known)
    if not counts:
        return ', and the folder holds no other images'
    found = ', '.join(f'{n} {pattern}' for pattern, n in counts.most_common())
    most = counts.most_common(1)[0][0]
    classes = ' or, if the folders are classes, --conditional' if '/' in most else ''
    return f"; the folder holds {found}: try --input_fname_pattern '{most}'{classes}"


def require_folder(folder: str) -> None:
    """Raise UserError if a folder of data does not exist."""
    if not os.path.isdir(folder):
        raise UserError(
            f'{folder}: no such data folder; download.py makes those of mnist, celebA, '
            'lsun and digits; --data_dir sets the folder that they are in'
        )


def class_names(folder: str) -> list[str]:
    """Sorted names of the folders in a folder. Raises UserError if there are none."""
    require_folder(folder)
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_dir())
    names = [name for name in names if not JUNK.search(name)]
    if not names:
        raise UserError(
            f'{folder}: has no class folders; --conditional needs one for each class'
        )
    return names
