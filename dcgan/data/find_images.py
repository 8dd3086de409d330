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
    **dict.fromkeys(
        ['.npy', '.npz'],
        'write each array as PNG, by PIL.Image.fromarray(array).save("NAME.png")',
    ),
    **dict.fromkeys(['.zip', '.gz', '.tar'], 'unpack them'),
}
# never images of a data set: hidden files and folders, and files of systems
JUNK = re.compile(r'(^|/)(\.|__MACOSX(/|$)|Thumbs\.db$|desktop\.ini$)', re.IGNORECASE)


def find_images(
    folder: str, pattern: str | None, classes: Iterable[str] | None = None
) -> list[str]:
    """Sorted paths of the images in a folder or, given `classes`, in these subfolders.

    They match the glob `pattern`; None: see `default_images`. Prints which others are
    not used. Raises UserError if no file matches.
    """
    folders = [folder]
    if classes and '/' not in (pattern or ''):
        folders = [os.path.join(folder, name) for name in classes]
    if pattern:
        found = [p for parent in folders for p in glob_files(parent, any_case(pattern))]
        files = [path for path in found if not is_junk(folder, path)]
        if len(files) < len(found):
            count = len(found) - len(files)
            print(f' [*] {folder}: {count} system files are left out', flush=True)
    else:
        files = [path for parent in folders for path in default_images(parent)]
    if not files:
        raise UserError(
            f'{folder}: no file matches {pattern or "*.jpg"!r}{suggest_pattern(folder)}'
        )
    if '/' not in (pattern or '') and not classes:
        report_nested(folder, files)
    return sorted(files)


def glob_images(folder: str, pattern: str = '*') -> list[str]:
    """The files with IMAGE_EXTENSIONS in a folder that match a glob."""
    files = glob_files(folder, pattern)
    return [path for path in files if path.lower().endswith(IMAGE_EXTENSIONS)]


def report_nested(folder: str, files: Sequence[str]) -> None:
    """Print how many images the subfolders of a folder hold."""
    nested = [p for p in glob_images(folder, '*/**') if not is_junk(folder, p)]
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


def is_junk(folder: str, path: str) -> bool:
    """Whether the path of a file, within its folder, is JUNK."""
    return bool(JUNK.search(relative_path(path, folder).replace(os.sep, '/')))


def default_images(folder: str) -> list[str]:
    """The *.jpg files of a folder or, if there are none, all with IMAGE_EXTENSIONS."""
    images = glob_images(folder)
    jpegs = [path for path in images if path.lower().endswith('.jpg')]
    others = count_extensions(set(images) - set(jpegs))
    if jpegs and others:
        print(
            f' [!] {folder}: only *.jpg files are used, not {others}; for all files, '
            "set --input_fname_pattern '*'",
            flush=True,
        )
    elif others:
        print(f' [*] {folder}: no *.jpg files, so {others} are used', flush=True)
    return jpegs or images


def count_extensions(paths: Iterable[str]) -> str:
    """How many files have each extension, for example '3 *.png, 1 *.bmp'."""
    return _list_counts(
        collections.Counter(f'*{os.path.splitext(path)[1]}' for path in paths)
    )


def suggest_pattern(folder: str) -> str:
    """The end of an error message: the images in a folder, and a pattern for them."""
    images, others = collections.Counter(), collections.Counter()
    known, advice = Image.registered_extensions(), {}
    for path in glob_files(folder, '**'):
        if is_junk(folder, path):
            continue
        extension = os.path.splitext(path)[1]
        nested = '' if os.path.dirname(path) == os.path.normpath(folder) else '**/'
        kind = f'*{extension}' if extension else 'files without an extension'
        if extension.lower() in known:
            images[f'{nested}{kind}'] += 1
        else:
            others[f'{nested}{kind}'] += 1
            advice[extension.lower()] = CONVERSIONS.get(extension.lower())
    if images:
        most = images.most_common(1)[0][0]
        classes = (
            ' or, if the folders are classes, --conditional' if '/' in most else ''
        )
        return (
            f'; the folder holds {_list_counts(images)}: try --input_fname_pattern '
            f"'{most}'{classes}"
        )
    if not others:
        return ', and the folder holds no other images'
    ways = '; '.join(filter(None, advice.values())) or 'convert them to PNG or JPEG'
    return (
        f', and the folder holds no other images, only {_list_counts(others)}: {ways}'
    )


def _list_counts(counts):
    return ', '.join(f'{n} {pattern}' for pattern, n in counts.most_common())


def require_folder(folder: str) -> None:
    """Raise UserError if a folder of data does not exist."""
    if not os.path.isdir(folder):
        raise UserError(
            f'{folder}: no such data folder; download.py makes mnist, celebA, lsun and '
            'digits; --data_dir sets the folder that holds them'
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
