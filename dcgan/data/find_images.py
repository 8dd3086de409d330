"""Find the image files of a data set, and the folders of its classes."""

import collections
import os
import re
from collections.abc import Iterable, Sequence

from PIL import Image

from dcgan.util.errors import UserError
from dcgan.util.files import glob_files, relative_path

IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp')
CONVERSIONS = {  # advice on files that Pillow cannot read, by extension
    '.heic': 'convert them to JPEG, as by "magick mogrify -format jpg *.heic"',
    '.heif': 'convert them to JPEG, as by "magick mogrify -format jpg *.heif"',
    '.avif': 'install Pillow 11.3 or newer, which reads AVIF',
    '.svg': 'draw them as PNG, as by "magick mogrify -format png *.svg"',
    '.npy': 'write each array as PNG, by PIL.Image.fromarray(array).save("NAME.png")',
    '.npz': 'write each array as PNG, by PIL.Image.fromarray(array).save("NAME.png")',
    '.zip': 'unpack them',
    '.gz': 'unpack them',
    '.tar': 'unpack them',
}
# never images of a data set: hidden files and folders, and files of systems
JUNK = re.compile(r'(^|/)(\.|__MACOSX(/|$)|Thumbs\.db$|desktop\.ini$)', re.IGNORECASE)


def find_images(
    folder: str, pattern: str | None, classes: Iterable[str] | None = None
) -> list[str]:
    """Find the image files of a data set; returns sorted paths.

    pattern  a glob in the folder; None: the default_images of the folder
    classes  names of class folders, to search instead of the folder itself

    Prints which other images are not used. Raises UserError if no file matches.
    """
    if not pattern:
        folders = [os.path.join(folder, name) for name in classes or ()] or [folder]
        files = [path for parent in folders for path in default_images(parent)]
    else:
        is_of_classes = classes and '/' not in pattern
        folders = [os.path.join(folder, name) for name in classes or ()]
        files = []
        for parent in folders if is_of_classes else [folder]:
            files += glob_files(parent, any_case(pattern))
        files = without_junk(folder, files)
    if not files:
        raise UserError(
            f'{folder}: no file matches {pattern or "*.jpg"!r}{suggest_pattern(folder)}'
        )
    if '/' not in (pattern or '') and not classes:
        report_nested(folder, files)
    return sorted(files)


def report_nested(folder: str, files: Sequence[str]) -> None:
    """Print how many images the subfolders of a folder hold."""
    nested = [
        path
        for path in glob_files(folder, '*/**')
        if path.lower().endswith(IMAGE_EXTENSIONS) and not is_junk(folder, path)
    ]
    if nested:  # without files that are used through a link
        used = {os.path.realpath(path) for path in files}
        nested = [path for path in nested if os.path.realpath(path) not in used]
    if nested:
        pattern = f'**/*{os.path.splitext(nested[0])[1]}'
        print(
            f' [!] {folder}: {count_extensions(nested)} in subfolders are not used; '
            f"for them, too, set --input_fname_pattern '{pattern}'",
            flush=True,
        )


def any_case(pattern: str) -> str:
    """A glob that also matches its extension in other cases: *.JPG for *.jpg."""

    def both_cases(match):
        return ''.join(f'[{c.lower()}{c.upper()}]' for c in match[0])

    return re.sub(r'(?<=\.)[a-zA-Z]+$', both_cases, pattern)


def without_junk(folder: str, files: Sequence[str]) -> list[str]:
    """The files without JUNK; prints how many are left out."""
    kept = [path for path in files if not is_junk(folder, path)]
    if len(kept) < len(files):
        count = len(files) - len(kept)
        print(f' [*] {folder}: {count} system files are left out', flush=True)
    return kept


def is_junk(folder: str, path: str) -> bool:
    """Whether the path of a file, within its folder, is JUNK."""
    return bool(JUNK.search(relative_path(path, folder).replace(os.sep, '/')))


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
    return _list_counts(
        collections.Counter(f'*{os.path.splitext(path)[1]}' for path in paths)
    )


def suggest_pattern(folder: str) -> str:
    """The end of an error message: the images in a folder, and a pattern for them."""
    counts, others = collections.Counter(), collections.Counter()
    known = Image.registered_extensions()
    for path in glob_files(folder, '**'):
        if is_junk(folder, path):
            continue
        extension = os.path.splitext(path)[1]
        nested = '' if os.path.dirname(path) == os.path.normpath(folder) else '**/'
        kinds = counts if extension.lower() in known else others
        kind = f'*{extension}' if extension else 'files without an extension'
        kinds[f'{nested}{kind}'] += 1
    if not counts:
        return ', and the folder holds no other images' + _conversions(others)
    found = _list_counts(counts)
    most = counts.most_common(1)[0][0]
    classes = ' or, if the folders are classes, --conditional' if '/' in most else ''
    return f"; the folder holds {found}: try --input_fname_pattern '{most}'{classes}"


def _conversions(counts):
    """Describe the files of a folder without images; advise how to convert them."""
    if not counts:
        return ''
    extensions = {os.path.splitext(pattern)[1].lower() for pattern in counts}
    advice = [text for end, text in CONVERSIONS.items() if end in extensions]
    advice = '; '.join(advice) or 'convert them to PNG or JPEG'
    return f', only {_list_counts(counts)}: {advice}'


def _list_counts(counts):
    return ', '.join(f'{n} {pattern}' for pattern, n in counts.most_common())


def require_folder(folder: str) -> None:
    """Raise UserError if a folder of data does not exist."""
    if not os.path.isdir(folder):
        raise UserError(
            f'{folder}: no such data folder; download.py makes mnist, celebA, lsun and '
            'digits; --data_dir sets the folder that holds them'
        )


def has_images(folder: str) -> bool:
    """Whether a folder has files of IMAGE_EXTENSIONS, not counting its subfolders."""
    return any(
        path.lower().endswith(IMAGE_EXTENSIONS) for path in glob_files(folder, '*')
    )


def class_folders(folder: str) -> list[str]:
    """Sorted names of the class folders in a folder: all but JUNK."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    return [name for name in names if not JUNK.search(name)]


def class_names(folder: str) -> list[str]:
    """The class_folders of a data set. Raises UserError if there are none."""
    require_folder(folder)
    names = class_folders(folder)
    if not names:
        raise UserError(
            f'{folder}: has no class folders; --conditional needs one for each class'
        )
    return names
