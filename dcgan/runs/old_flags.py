"""Read flags of older versions of the original, which have other names today."""

import shlex

from dcgan.util.errors import UserError, printable
from dcgan.util.flags import Flags

# what switches are called today, when they are on and when they are off
SWITCHES = {
    'is_train': ('--train', '--notrain'),
    'is_crop': ('--crop', '--nocrop'),
    'noema': ('--ema 0', ''),
}
VALUES = {
    'image_size': 'input_height',
    'output_size': 'output_height',
    'options': 'visualize_option',
    'c_dim': 'grayscale',
}
BOOLEANS = {'true': True, '1': True, 'false': False, '0': False}


def todays_arguments(arguments: list[str], flags: Flags) -> list[str]:
    """Arguments in which flags of older versions have today's names.

    If there are any, prints the whole command in today's words. Raises UserError for a
    value that such a flag cannot have, and for `False` after a switch of today.
    """
    todays, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        name, has_value, value = argument.lstrip('-').partition('=')
        is_flag, follows = argument.startswith('-'), rest[0].lower() if rest else ''
        is_today = is_flag and name in flags
        if is_today and flags.table[name].value_type is bool and follows == 'false':
            raise UserError(
                f'{argument} {rest[0]}: a switch takes no value, give --no{name}'
            )
        is_negated = name.startswith('no') and name[2:] in SWITCHES
        name = name[2:] if is_negated else name
        if not is_flag or name not in {*SWITCHES, *VALUES}:
            todays.append(argument)
            continue
        is_switch = name in SWITCHES
        if not has_value and rest and (not is_switch or follows in BOOLEANS):
            value = rest.pop(0)
        if is_switch:
            is_on = BOOLEANS.get(value.lower(), True) and not is_negated
            todays += SWITCHES[name][0 if is_on else 1].split()
        elif name != 'c_dim':
            todays.append(f'--{VALUES[name]}={value}')
        elif value not in ('1', '3'):
            raise UserError(f'--c_dim {value}: images have 3 channels or, gray, 1')
        elif value == '1':
            todays.append('--grayscale')
    if todays != list(arguments):
        command = shlex.join(['main.py', *todays[1:]])
        print(f' [*] Flags have other names today: {printable(command)}', flush=True)
    return todays
