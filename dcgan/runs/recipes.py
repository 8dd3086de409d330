"""Recipes: the flags that --recipe stands for, see docs/results.md."""

from dcgan.runs.flags_json import decided
from dcgan.training.loop import FEW_IMAGES
from dcgan.util.flags import Flag, Flags, Group

FAITHFUL = {'g_steps': 2, 'r1': 0.0, 'ema': 0.0, 'beta1': 0.5, 'augment': ''}
FAITHFUL |= {'learning_rate': 0.0002, 'learning_rate_d': None, 'learning_rate_g': None}
# Without classes, D needs the penalty, and then bears higher rates; with classes, it
# lags behind G.
BEST = {'g_steps': 1, 'r1': 10.0, 'ema': 0.999, 'beta1': 0.0, 'learning_rate': 0.0004}
BEST_OF_CLASSES = {'g_steps': 1, 'ema': 0.999, 'learning_rate': 0.0005}
BEST_OF_CLASSES |= {'learning_rate_d': 0.001}
BEST_OF_IMAGES = {**BEST, 'batch_size': 32}  # more iterations in the same time
BEST_OF_LARGE = {**BEST, 'batch_size': 16, 'layers': 'auto'}  # from LARGE pixels on
LARGE = 96
BEST_OF_FEW = {'augment': 'translation'}  # or D memorizes the images
# fmt: off
FLAGS = Group(
    'Recipe',
    '--recipe best draws better images, docs/recipes.md',
    Flag('recipe', 'faithful', 'Name of flags that are set unless they are given, see '
         'docs/recipes.md; faithful: to the defaults of the original', 'training',
         choices=('faithful', 'best')),
)
# fmt: on


def apply_recipe(config, flags: Flags, y_dim, is_images: bool, is_new: bool) -> None:
    """Set the flags of --recipe that are not given; print those that it changes."""
    if not flags.given('recipe'):  # a run that resumes has recorded them
        return
    values = dict(FAITHFUL)
    if config.recipe == 'best':
        del values['augment']  # that is up to apply_to_few
        size = config.output_height, config.output_width or config.output_height
        is_large = is_new and min(size) >= LARGE  # what has weights keeps its layers
        of_images = BEST_OF_LARGE if is_large else BEST_OF_IMAGES
        values |= BEST_OF_CLASSES if y_dim else of_images if is_images else BEST
    line = _set(config, flags, values) or 'changes nothing'
    print(f' [*] Recipe {config.recipe}: {line}')


def apply_to_few(config, flags: Flags, count: int) -> None:
    """As apply_recipe, after it, for a data set of `count` images, if these are few."""
    is_best = flags.given('recipe') and config.recipe == 'best'
    if is_best and count < FEW_IMAGES and (line := _set(config, flags, BEST_OF_FEW)):
        print(f' [*] Recipe best of {count} images: {line}')


def _set(config, flags, values):
    given, changes = decided(flags), []
    for name, value in values.items():
        if name not in given and getattr(config, name) != value:
            setattr(config, name, value)
            text = f'{value:g}' if isinstance(value, float | int) else value
            is_off = value in (None, '')
            changes.append(f'no --{name}' if is_off else f'--{name} {text}')
    return ' '.join(changes)
