"""Define flags in one table: defaults, bounds and help, and what runs do with them."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from absl import flags as absl_flags

FLAGS = absl_flags.FLAGS
DEFINITIONS = {bool: absl_flags.DEFINE_bool, str: absl_flags.DEFINE_string}
DEFINITIONS |= {int: absl_flags.DEFINE_integer, float: absl_flags.DEFINE_float}
MAX_SIZE = 2**20  # of a model, in each dimension
# a run records all flags, but recalls only those marked model, data or training
MARKS = {
    'model': 'defines the model: a run recalls it from FLAGS.json wherever it is used',
    'data': 'is recalled where the data set is read, and when a training resumes',
    'training': 'is recalled when a training resumes',
    'result': 'makes a difference to what is learned',
    'local': 'belongs to a machine, so that workers may differ in it',
    'path': 'is a path, in which ~ and $VARS are expanded',
    'run': 'says which run is meant',
    'size': 'is the height or the width of images',
    'labels': 'is a source of labels, of which a run has one',
    'task': 'is something to do',
    'export': 'is something to do: to write weights',
    'inversion': 'is something to do with pictures, whose path it is',
    'samples': 'asks for samples',
}


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag. Its type is the type of the default, unless `type` gives it."""

    name: str
    default: Any
    help: str  # --help leaves out what follows a semicolon
    marks: str = ''  # some of MARKS, such as 'model result'
    type: Callable | None = None
    choices: Iterable[str] = ()
    least: float | None = None
    most: float | None = None

    @property
    def value_type(self) -> type:
        """bool, int, float or str."""
        return self.type or type(self.default)

    def define(self) -> None:
        """Define it for absl, in place of one of the same name."""
        if self.name in FLAGS:
            delattr(FLAGS, self.name)
        if self.choices:
            absl_flags.DEFINE_enum(self.name, self.default, self.choices, self.help)
            return
        define = DEFINITIONS[self.value_type]
        limit = MAX_SIZE if 'model' in self.marks else 2**31 - 1
        most = limit if self.most is None and self.value_type is int else self.most
        bounds = (self.least, most) if self.value_type in (int, float) else ()
        define(self.name, self.default, self.help, *bounds)
        if self.value_type is float:
            absl_flags.register_validator(self.name, lambda x: x == x, 'no number')


class Group:
    """Flags of one part of the project; `about` says what for."""

    def __init__(self, title: str, about: str, *flags: Flag):
        self.title, self.about, self.flags = title, about, flags


class Flags:
    """A table of flags, and what the command line gives: flags[name] is absl's Flag."""

    def __init__(self, groups: list[Group]):
        self.groups = groups
        self.table = {flag.name: flag for group in groups for flag in group.flags}

    def define(self) -> None:
        """Define all flags anew; what an earlier command line gave is forgotten."""
        self.recorded: dict[str, Any] = {}  # in FLAGS.json of the run that is used
        for flag in self.table.values():
            flag.define()

    def __getitem__(self, name: str) -> absl_flags.Flag:
        return FLAGS[name]

    def given(self, *names: str) -> list[str]:
        """Those of these flags that the command line has."""
        return [name for name in names if FLAGS[name].present]

    def names(self, *marks: str) -> list[str]:
        """Names of the flags that have one of these marks."""
        flags = self.table.values()
        return [flag.name for flag in flags if {*marks} & {*flag.marks.split()}]
