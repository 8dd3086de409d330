"""Read flags of older versions of the original and of forks, by today's names."""

import shlex

from dcgan.util.errors import UserError, printable

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
    'c_dim': 'grayscale',
}
BOOLEANS = {'true': True, '1': True, 'false': False, '0': False}


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
            raise UserError(
                '--log_dir: logs lie in the folder of the run; leave it out'
            )
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
