"""Find the image files of a data set, and the folders of its classes."""

import collections
import itertools
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from PIL import Image

from dcgan.data.images import FORMATS
from dcgan.util.errors import UserError
from dcgan.util.files import glob_files, relative_path
from dcgan.util.output import print_line

IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp')
SAVE_ARRAYS = 'write each array as PNG, by PIL.Image.fromarray(array).save("NAME.png")'
CONVERSIONS = {  # advice on files that Pillow cannot read, by extension
    '.heic': 'convert them to JPEG, as by "magick mogrify -format jpg *.heic"',
    '.heif': 'convert them to JPEG, as by "magick mogrify -format jpg *.heif"',
    '.avif': 'install Pillow 11.3 or newer, which reads AVIF',
    '.svg': 'draw them as PNG, as by "magick mogrify -format png *.svg"',
    **dict.fromkeys(['.npy', '.npz'], SAVE_ARRAYS),
    **dict.fromkeys(['.zip', '.gz', '.tar'], 'unpack them'),
}
# never images of a data set: hidden files and folders, and what is left by Windows and
# downloads (.db, .part), macOS (__MACOSX, Icon), editors (x.jpg~), storage (@eaDir)
JUNK = re.compile(
    r'(^|/)(\.|~\$|Icon\r$|[^/]*(\.(db(-\w+)?|ini|lnk|url|webloc|tmp|part|partial'
    r'|filepart|\w*download|aria2|!\w+|[a-z]\w+(:[a-z][\w.]*|_original))'
    r'|~|@Syno(Resource|EAStream))$|(__MACOSX|System Volume Information|lost\+found'
    r'|found\.\d{3}|LOST\.DIR|RECYCLER|Network Trash Folder|Temporary Items'
    r'|[@#$~](eadir|tmp|recycle(\.bin)?|(recently-)?snapshots?|sharesnap|__thumb))(/|$))',
    re.IGNORECASE,
)


def find_images(
    folder: str, pattern: str | None, subfolders: Collection[str] | None = None
) -> list[str]:
    """Sorted paths of the images in a folder or, if given, in these folders in it.

    They match the glob `pattern`; None: *.jpg or, if there are none, all images. Prints
    which others are not used. Raises UserError if no file matches. A file in place of
    the folder is the one image.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        return [folder]
    require_inside(folder, pattern or '')
    is_nested = '/' in (pattern or '')
    folders = subfolders if subfolders and not is_nested else [folder]
    any_case = re.sub(  # *.[jJ][pP][gG] for *.jpg
        r'(?<=\.)[a-zA-Z]+$',
        lambda match: ''.join(f'[{c.lower()}{c.upper()}]' for c in match[0]),
        pattern or '*',
    )
    hidden = re.sub('[^/]*$', r'.\g<0>', any_case, count=1)  # to count them
    globs = itertools.product(folders, (any_case, hidden))
    found = [path for parent, glob in globs for path in glob_files(parent, glob)]
    if not pattern:
        found = [path for path in found if path.lower().endswith(IMAGE_EXTENSIONS)]
    files = [path for path in found if not is_junk(folder, path)]
    if left_out := len(found) - len(files):
        print_line(f' [*] {folder}: {left_out} system files are left out')
    if not pattern:
        groups = itertools.groupby(files, os.path.dirname)
        files = [path for group in groups for path in default_images(*group)]
    if not files:
        problem = f'no file matches {pattern or "*.jpg"!r}'
        raise UserError(f'{folder}: {problem}{suggest_pattern(folder)}')
    if not is_nested and not subfolders and (nested := glob_images(folder, '*/**')):
        used = {os.path.realpath(path) for path in files}  # some through links
        nested = [path for path in nested if os.path.realpath(path) not in used]
        if nested:
            wanted = f'**/*{os.path.splitext(nested[0])[1]}'
            advice = f"for them, too, set --input_fname_pattern '{wanted}'"
            unused = f'{count_extensions(nested)} in subfolders are not used'
            print_line(f' [!] {folder}: {unused}; {advice}')
    return sorted(files)


def glob_images(folder: str, pattern='*', extensions=IMAGE_EXTENSIONS) -> list[str]:
    """Files of a folder that match a glob and have these extensions, but no JUNK."""
    files = (p for p in glob_files(folder, pattern) if not is_junk(folder, p))
    return [path for path in files if os.path.splitext(path)[1].lower() in extensions]


def is_junk(folder: str, path: str) -> bool:
    """Whether the path of a file, within its folder, is JUNK."""
    return bool(JUNK.search(relative_path(path, folder).replace(os.sep, '/')))


def default_images(folder: str, paths: Iterable[str]) -> list[str]:
    """The *.jpg files of these images of a folder or, if there are none, all."""
    images = [*paths]
    jpegs = [path for path in images if path.lower().endswith('.jpg')]
    others = count_extensions({*images} - {*jpegs})
    if jpegs and others:
        advice = "for all files, set --input_fname_pattern '*'"
        print_line(f' [!] {folder}: only *.jpg files are used, not {others}; {advice}')
    elif others:
        print_line(f' [*] {folder}: no *.jpg files, so {others} are used')
    return jpegs or images


def count_extensions(paths: Iterable[str]) -> str:
    """How many files have each extension, for example '3 *.png, 1 *.bmp'."""
    return list_counts(f'*{os.path.splitext(path)[1]}' for path in paths)


def list_counts(kinds: Iterable[str]) -> str:
    """How often each text occurs, the most frequent first: '3 *.png, 1 *.bmp'."""
    counts = collections.Counter(kinds).most_common()
    return ', '.join(f'{count} {kind}' for kind, count in counts)


def suggest_pattern(folder: str) -> str:
    """The end of an error message: the images in a folder, and a pattern for them."""
    images, others, advice = [], [], {}
    for path in (p for p in glob_files(folder, '**') if not is_junk(folder, p)):
        extension = os.path.splitext(path)[1]
        nested = '' if os.path.dirname(path) == os.path.normpath(folder) else '**/'
        kind = nested + (f'*{extension}' if extension else 'files without an extension')
        if Image.registered_extensions().get(extension.lower()) in (*FORMATS, 'MPO'):
            images.append(kind)
        else:
            others.append(kind)
            advice[extension.lower()] = CONVERSIONS.get(extension.lower())
    if images:
        most = collections.Counter(images).most_common(1)[0][0]
        way = f"try --input_fname_pattern '{most}'"
        if '/' in most:
            way += ' or, if the folders are classes, --conditional'
        return f'; the folder holds {list_counts(images)}: {way}'
    if not others:
        return ', and the folder holds no other images'
    ways = '; '.join(filter(None, advice.values())) or 'convert them to PNG or JPEG'
    return f', and the folder holds no other images, only {list_counts(others)}: {ways}'


def require_folder(folder: str) -> None:
    """Raise UserError if a folder of data does not exist."""
    if not os.path.isdir(folder):
        advice = 'download.py makes mnist, cifar10, celebA and more, in --data_dir'
        raise UserError(f'{folder}: no such data folder; {advice}')


def require_inside(folder: str, pattern: str) -> None:
    """Raise UserError if a glob pattern leads out of a folder, but for links in it."""
    roots = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))
    path = roots[0] / pattern
    if '..' in Path(pattern).parts or not any(map(path.is_relative_to, roots)):
        advice = 'name the folder of the images by --data_dir and --dataset'
        problem = f'--input_fname_pattern {pattern} leads out of {folder}'
        raise UserError(f'{problem}; {advice}')


def class_folders(folder: str) -> list[str]:
    """Sorted names of the folders in a folder that hold an image, themselves or deeper.

    A file without extension may be one. JUNK is left out.
    """
    require_folder(folder)
    found = glob_images(folder, '*/**', {'', *Image.registered_extensions()})
    return sorted({class_folder_of(path, folder) for path in found})


def class_folder_of(path: str, folder: str) -> str:
    """The folder in `folder` that holds a file, at any depth; the file if none does."""
    return relative_path(path, folder).split(os.sep)[0]
