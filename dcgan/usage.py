"""The text of main.py --help."""

import textwrap

WIDTH, INDENT = 88, 6


def help_text(doc: str, flags, names: list[str], groups: dict[str, str]) -> str:
    """The help of some flags, in their order and in groups.

    `flags` is absl's FlagValues. `groups` has the title of each group by the name of
    its first flag. absl's own help sorts flags by their names.
    """
    lines = [doc.strip()]
    for name in names:
        if name in groups:
            lines += ['', f'{groups[name]}:']
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
