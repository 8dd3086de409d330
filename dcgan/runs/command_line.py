"""The flags of main.py as a whole: their help, and what becomes of them."""

import itertools
import shlex
import textwrap
import types

from dcgan.runs.run import check_names
from dcgan.util.errors import UserError, printable
from dcgan.util.files import expand_path

# sections of --help, each by its first flag
GROUPS = {
    'train': 'Training',
    'recipe': "Ways to train, see docs/recipes.md; by default the original's",
    'dataset': 'Data',
    'workers': 'Several processes, see docs/workers.md',
    'out_dir': 'The run folder',
    'visualize': 'Using a trained model; without any of these, it draws samples',
    'generate_test_images': 'Samples',
}
WIDTH, INDENT = 88, 6
# flags of older versions of the original, and what they are called today
OLD_SWITCHES = {'is_train': 'train', 'is_crop': 'crop'}
OLD_VALUES = {
    'image_size': 'input_height',
    'output_size': 'output_height',
    'options': 'visualize_option',
    'c_dim': 'grayscale',
}
BOOLEANS = {'true': True, '1': True, 'false': False, '0': False}
_defined: list[str] = []  # names of flags that main.py has defined


def own_flags(flags, module) -> list[str]:
    """The names of the flags that a module has defined, in their order."""
    names = [flag.name for flag in flags.get_key_flags_for_module(module)]
    _defined.extend(names)
    return names


def forget_flags(flags) -> None:
    """Forget the flags of main.py, so that it can run again in one interpreter."""
    while _defined:
        delattr(flags, _defined.pop())


def read_flags(argv: list[str], flags, names: list[str], paths: list[str]):
    """The flags `names` as a namespace, with ~ and $VARS in `paths` expanded.

    Raises UserError for arguments that are no flags.
    """
    # older versions took `--train True`, which still does what it says
    others = [argument for argument in argv[1:] if argument.lower() != 'true']
    if others:
        raise UserError(
            f'{others[0]!r} is not a flag, see --help; quote a value that has spaces; '
            'a switch takes no value, it is given as --crop or --nocrop'
        )
    config = types.SimpleNamespace(**{name: flags[name].value for name in names})
    for name in paths:
        setattr(config, name, expand_path(getattr(config, name)))
    check_names(config)
    return config


def todays_arguments(arguments: list[str], flags) -> list[str]:
    """Arguments in which flags of older versions of the original have today's names.

    If there are any, prints the whole command in today's words. Raises UserError for a
    value that such a flag cannot have, and for `False` after one of today's switches.
    """
    for switch, value in itertools.pairwise(arguments):
        name = switch.lstrip('-')
        is_switch = switch.startswith('-') and name in flags and flags[name].boolean
        if is_switch and value.lower() == 'false':
            raise UserError(
                f'{switch} {value}: a switch takes no value, give --no{name}'
            )
    todays, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        name, has_value, value = argument.lstrip('-').partition('=')
        is_negated = name.startswith('no') and name[2:] in OLD_SWITCHES
        name = name[2:] if is_negated else name
        if not argument.startswith('-') or name not in {*OLD_SWITCHES, *OLD_VALUES}:
            todays.append(argument)
            continue
        is_switch = name in OLD_SWITCHES
        if not has_value and rest and (not is_switch or rest[0].lower() in BOOLEANS):
            value = rest.pop(0)
        if is_switch:
            is_on = BOOLEANS.get(value.lower(), True) and not is_negated
            todays.append(f'--{"" if is_on else "no"}{OLD_SWITCHES[name]}')
        elif name != 'c_dim':
            todays.append(f'--{OLD_VALUES[name]}={value}')
        elif value not in ('1', '3'):
            raise UserError(f'--c_dim {value}: images have 3 channels or, gray, 1')
        elif value == '1':
            todays.append('--grayscale')
    if todays != list(arguments):
        command = shlex.join(['main.py', *todays[1:]])
        print(f' [*] Flags have other names today: {printable(command)}', flush=True)
    return todays


def help_text(doc: str, flags, names: list[str]) -> str:
    """The help of some flags, in their order and in groups.

    `flags` is absl's FlagValues. absl's own help sorts flags by their names.
    """
    lines = [doc.strip()]
    for name in names:
        if name in GROUPS:
            lines += ['', f'{GROUPS[name]}:']
        flag = flags[name]
        values = getattr(flag.parser, 'enum_values', None)
        kind = '|'.join(values) if values else flag.flag_type()
        head = f'  --[no]{name}' if kind == 'bool' else f'  --{name} <{kind}>'
        text = flag.help.partition(': ')[2] if values else flag.help
        if len(head) > WIDTH:
            head = f'  --{name} <choice>'
            text += f': {", ".join(values)}'
        if kind != 'bool' and flag.default not in (None, ''):
            text += f' (default: {flag.default})'
        lines += [head, *wrapped(text)]
    return '\n'.join(lines)


def wrapped(text: str) -> list[str]:
    """Lines of an indented paragraph."""
    indent = ' ' * INDENT
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
