"""Recipes: the flags that --recipe stands for, see docs/results.md."""

from dcgan.runs.flags_json import decided
from dcgan.util.flags import Flag, Flags, Group

FAITHFUL = {'g_steps': 2, 'r1': 0.0, 'ema': 0.0, 'beta1': 0.5}
FAITHFUL |= {'learning_rate': 0.0002, 'learning_rate_d': None, 'learning_rate_g': None}
# Without classes, D needs the penalty, and then bears higher rates; with classes, it
# lags behind G.
BEST = {'g_steps': 1, 'r1': 10.0, 'ema': 0.999, 'beta1': 0.0, 'learning_rate': 0.0004}
BEST_OF_CLASSES = {'g_steps': 1, 'ema': 0.999, 'learning_rate': 0.0005}
BEST_OF_CLASSES |= {'learning_rate_d': 0.001}
BEST_OF_IMAGES = {**BEST, 'batch_size': 32}  # more iterations in the same time
# fmt: off
FLAGS = Group(
    'Recipe',
    '--recipe best draws better images, docs/recipes.md',
    Flag('recipe', 'faithful', 'Name of flags that are set unless they are given, see '
         'docs/recipes.md; faithful: to the defaults of the original', 'training',
         choices=('faithful', 'best')),
)
# fmt: on


def apply_recipe(config, flags: Flags, y_dim: int | None, is_images: bool) -> None:
    """Set the flags of --recipe that are not given; print those that it changes."""
    if not flags.given('recipe'):  # a run that resumes has recorded them
        return
    values = dict(FAITHFUL)
    if config.recipe == 'best':
        without_classes = BEST_OF_IMAGES if is_images else BEST
        values |= BEST_OF_CLASSES if y_dim else without_classes
    given, changes = decided(flags), []
    for name, value in values.items():
        if name not in given and getattr(config, name) != value:
            setattr(config, name, value)
            changes.append(f'no --{name}' if value is None else f'--{name} {value:g}')
    line = ' '.join(changes) or 'changes nothing'
    print(f' [*] Recipe {config.recipe}: {line}')
