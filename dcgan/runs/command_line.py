"""Read the command line of main.py, of today or older; print its flags and --help."""

import os
import shlex
import textwrap
import types

from dcgan.runs.flags_json import FOLDERS, NAME
from dcgan.util.errors import UserError, printable
from dcgan.util.files import expand_path
from dcgan.util.flags import Flags
from dcgan.util.output import abandon_output, print_line

WIDTH = 80  # of --help, in characters
# what switches are called today, when they are off and when they are on
SWITCHES = {
    'is_train': ('--notrain', '--train'),
    'is_crop': ('--nocrop', '--crop'),
    'noema': ('', '--ema 0'),
}
VALUES = {
    'image_size': 'input_height',
    'image_height': 'input_height',
    'image_width': 'input_width',
    'output_size': 'output_height',
    'options': 'visualize_option',
    'fid_n_samples': 'evaluate_samples',
    'incept_path': 'features',
    'stats_path': 'statistics',
    'fid_eval_steps': 'evaluate_freq',
    'c_dim': 'grayscale',
}
BOOLEANS = {'true': True, '1': True, 'false': False, '0': False}


def read_flags(argv: list[str], flags: Flags) -> types.SimpleNamespace:
    """The flags as a namespace, with ~ and $VARS in paths expanded.

    Raises UserError for arguments that are no flags.
    """
    # older versions took `--train True`, which still does what it says
    others = [argument for argument in argv[1:] if argument.lower() != 'true']
    if others:
        advice = 'quote a value that has spaces; a switch takes no value, it is given'
        problem = f'{others[0]!r} is not a flag, see --help'
        raise UserError(f'{problem}; {advice} as --crop or --nocrop')
    config = types.SimpleNamespace(**{name: flags[name].value for name in flags.table})
    for name in flags.names('path'):
        setattr(config, name, expand_path(getattr(config, name)))
    if config.out_name:  # it may be given as a path, such as out/NAME/
        config.out_name = name = os.path.normpath(config.out_name)
        is_path = name != os.path.basename(name) and os.path.isdir(name)
        if is_path and not os.path.isdir(os.path.join(config.out_dir, name)):
            relative = os.path.relpath(name, config.out_dir)
            is_outside = relative.startswith(os.pardir)
            config.out_name = name if is_outside else relative
    return config


def todays_arguments(arguments: list[str]) -> list[str]:
    """Arguments in which flags of older versions have today's names.

    If there are any, prints the whole command in today's words. Raises UserError for a
    value that such a flag cannot have, and for forks' --log_dir, which absl would take.
    """
    todays, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        flag, has_value, value = argument.partition('=')
        name = flag.lstrip('-') if flag.startswith('-') else ''
        follows = rest[0].lower() if rest else ''
        if name == 'log_dir':
            raise UserError('--log_dir: logs lie in the run folder; leave it out')
        is_on = name[:2] != 'no' or name[2:] not in SWITCHES
        name = name if is_on else name[2:]
        if name not in {*SWITCHES, *VALUES}:
            todays.append(argument)
            continue
        if not has_value and rest and (name in VALUES or follows in BOOLEANS):
            value = rest.pop(0)
        if name in SWITCHES:
            is_on = is_on and BOOLEANS.get(value.lower(), True)
            todays += SWITCHES[name][is_on].split()
        elif name != 'c_dim':
            todays.append(f'--{VALUES[name]}={value}')
        elif value not in ('1', '3'):
            raise UserError(f'--c_dim {value}: images have 3 channels or, gray, 1')
        elif value == '1':
            todays.append('--grayscale')
    if todays != list(arguments):
        command = shlex.join(['main.py', *todays[1:]])
        print(f' [*] Flags have other names today: {printable(command)}')
    return todays


def print_flags(config, flags: Flags) -> None:
    """Print the flags that are not at their defaults, and where all are recorded."""
    arguments = []
    for name, flag in flags.table.items():
        is_folder = name in (*FOLDERS, 'out_name', 'labels')  # settled, to other paths
        value = flags[name].value if is_folder else getattr(config, name)
        if value == flag.default:
            continue
        if isinstance(value, bool):
            arguments.append(f'--{name}' if value else f'--no{name}')
        else:
            arguments.append(f'--{name} {shlex.quote(str(value))}')
    print(f' [*] Flags: {printable(" ".join(arguments))}')
    path = os.path.join(config.out_dir, NAME)
    if os.path.exists(path):
        print_line(f' [*] The run has recorded all flags, also defaults, in {path}')


def print_help(introduction: str, flags: Flags, is_full: bool) -> None:
    """Print --helpfull or --help."""
    text = (full_help if is_full else short_help)(introduction, flags)
    try:
        print(text, flush=True)
    except BrokenPipeError:  # `| head` has read all that it shows
        abandon_output()


def short_help(introduction: str, flags: Flags) -> str:
    """The flags of the first group, each in a line, and a line for each other group."""
    first, *others = flags.groups
    lines = [introduction.strip(), '', f'{first.title}:']
    for flag in first.flags:
        text = flag.help.partition('; ')[0]
        if flag.default not in (None, '', False):
            text += f' ({flag.default})'
        lines.append(f'  --{flag.name:<20} {text}')
    lines += ['', 'Other flags, which --helpfull describes:']
    lines += [f'  {group.title:<13} {group.about}' for group in others]
    return '\n'.join(lines)


def full_help(introduction: str, flags: Flags) -> str:
    """All flags by groups, with types, choices and defaults."""
    lines = [introduction.strip()]
    for group in flags.groups:
        lines += ['', f'{group.title}: {group.about}', '']
        for flag in group.flags:
            kind = '|'.join(flag.choices) or flag.value_type.__name__
            head, text = f'  --{flag.name} <{kind}>', flag.help
            if flag.value_type is bool:
                head = f'  --[no]{flag.name}'
            elif flag.default not in (None, ''):
                text += f' (default: {flag.default})'
            if len(head) > WIDTH:
                head = f'  --{flag.name} <choice>'
                text += f': {", ".join(flag.choices)}'
            lines += [head, textwrap.indent(textwrap.fill(text, WIDTH - 6), 6 * ' ')]
    return '\n'.join(lines)
