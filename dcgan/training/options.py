"""Training options that the original lacks. Their defaults train exactly as it does."""

import dataclasses
from typing import Any

from dcgan.training.learning_rates import SCHEDULES
from dcgan.util.flags import Flag, Group


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the training, by the names of their flags."""

    learning_rate_d: float | None = None  # None: learning_rate
    learning_rate_g: float | None = None
    lr_schedule: str = 'constant'
    lr_decay_epochs: str = ''  # of step, such as 10,20,25; of linear, one number
    lr_decay_rate: float = 0.1  # of step
    d_steps: int = 1  # in an iteration
    g_steps: int = 2
    pretrain_d: int = 0  # iterations of D alone, before the first one
    d_dropout: float = 0.0
    label_smoothing: float = 1.0  # the label of real images
    r1: float = 0.0  # weight of the gradient penalty
    flip: bool = False
    sample_epochs: int | None = None
    ckpt_epochs: int | None = None
    profile: str = ''  # first and last iteration of a trace, such as 100,110

    @classmethod
    def of(cls, config: Any) -> 'Options':
        """The options in `config`; missing ones get their defaults."""
        fields = dataclasses.fields(cls)
        return cls(**{f.name: getattr(config, f.name, f.default) for f in fields})


def _option(name: str, help: str, **fields) -> Flag:
    """The flag of a field of Options, which is recorded with a training."""
    marks = 'training' if name.endswith('epochs') else 'training result'
    return Flag(name, getattr(Options, name), help, marks, **fields)


# fmt: off
FLAGS = Group(
    'Training',
    'how networks are updated, docs/recipes.md: --ema, --r1, ...',
    _option('learning_rate_d', 'Learning rate of D; default: --learning_rate',
            type=float, least=0),
    _option('learning_rate_g', 'Learning rate of G; default: --learning_rate',
            type=float, least=0),
    _option('lr_schedule', 'Schedule of the learning rates; step multiplies them by '
            '--lr_decay_rate at each of --lr_decay_epochs, linear lowers them to zero '
            'from that epoch to the last', choices=SCHEDULES),
    _option('lr_decay_epochs',
            'Epochs of --lr_schedule, such as 10,20,25; linear: one'),
    _option('lr_decay_rate', 'Factor of --lr_schedule step', least=0),
    _option('d_steps', 'Updates of D in an iteration', least=1),
    _option('g_steps', 'Updates of G in an iteration', least=1),
    _option('pretrain_d', 'Iterations that train D alone, before the first one',
            least=0),
    _option('d_dropout', 'Share of the units of D that an update leaves out, after '
            'each hidden layer', least=0, most=0.99),
    _option('label_smoothing', 'Label of real images in updates of D, such as 0.9; '
            'generated ones have 0', least=0.5, most=1),
    _option('r1', "Weight of a penalty on D's gradient at real images, such as 10; "
            'keeps G varied', least=0),
    Flag('ema', 0.0, "Rate of moving averages of G's weights, such as 0.999, from "
         'which samples are drawn; 0: none, and the raw weights of a model that has '
         'averages', 'model result', least=0, most=0.999999),
    _option('flip', 'Mirror half of the images, others in each epoch'),
    _option('sample_epochs', 'Epochs between two further image grids, at their ends',
            type=int, least=1),
    _option('ckpt_epochs', 'Epochs between two further checkpoints, at their ends',
            type=int, least=1),
    Flag('resume_step', None, 'Iteration of the checkpoint to use; default: the newest',
         type=int, least=0),
    Flag('profile', Options.profile, 'Iterations of which to write a trace to logs/, '
         'such as 100,110'),
)
