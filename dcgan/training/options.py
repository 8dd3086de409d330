"""Ways to train that differ from the original's, which is the default of each."""

import dataclasses
import re
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.training.regularization import Dropout
from dcgan.util.errors import UserError
from dcgan.util.flags import Flag, Group

SCHEDULES = ('constant', 'step', 'linear')


@dataclasses.dataclass(frozen=True)
class Ways:
    """Settings of the training, by the names of their flags."""

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
    def of(cls, config: Any) -> 'Ways':
        """Those of a config, which may lack some."""
        fields = dataclasses.fields(cls)
        return cls(**{f.name: getattr(config, f.name, f.default) for f in fields})

    def in_graph(self) -> tuple:
        """The settings that are built into the graph of an iteration."""
        of_d = self.d_dropout, self.label_smoothing, self.r1
        return self.d_steps, self.g_steps, *of_d

    def check(self, epochs: int) -> None:
        """Raise UserError for settings that make no sense together."""
        self.profiled()
        decay = self._decay_epochs()
        if self.lr_schedule == 'constant' and self.lr_decay_epochs:
            raise UserError(
                f'--lr_decay_epochs {self.lr_decay_epochs}: a constant rate does not '
                'decay; give --lr_schedule step or linear'
            )
        if self.lr_schedule == 'step' and not decay:
            raise UserError(
                '--lr_schedule step: give the epochs, as in --lr_decay_epochs 10,20'
            )
        if self.lr_schedule == 'linear' and len(decay) != 1:
            raise UserError(
                '--lr_schedule linear: give the epoch from which the rates fall, as in '
                '--lr_decay_epochs 100'
            )
        if decay != sorted(set(decay)) or (decay and decay[-1] >= epochs):
            raise UserError(
                f'--lr_decay_epochs {self.lr_decay_epochs}: give rising numbers below '
                f'--epoch, {epochs}'
            )

    def profiled(self) -> tuple[int, int]:
        """The first and the last iteration of `profile`; (0, 0) for none."""
        match = re.fullmatch(r'(\d+),(\d+)', self.profile or '0,0')
        first, last = map(int, match.groups()) if match else (1, 0)
        if first > last or (self.profile and not first):
            raise UserError(
                f'--profile {self.profile}: give the first and the last iteration, as '
                'in 100,110'
            )
        return first, last

    def _decay_epochs(self):
        try:
            return [int(part) for part in str(self.lr_decay_epochs).split(',') if part]
        except ValueError:
            raise UserError(
                f'--lr_decay_epochs {self.lr_decay_epochs}: give numbers, as in 10,20'
            ) from None

    def of_d(self, seed: tf.Tensor | None) -> dict[str, Any]:
        """What model.losses takes while D trains; seed is that of dropout."""
        dropout = Dropout(self.d_dropout, seed) if self.d_dropout else None
        label = self.label_smoothing
        return {'dropout': dropout, 'real_label': label, 'r1': self.r1}

    def vary(
        self, images: np.ndarray, batch: int, part: slice
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """(images, half of them mirrored with `flip`; a seed, int32 [2], of dropout).

        images  [b, h, w, c], which are `part` of a batch of so many

        Draws from NumPy's global random numbers what these settings need. The seed is
        None without dropout.
        """
        seed = None
        if self.flip:
            is_flipped = (np.random.random_sample(batch) < 0.5)[part]
            images = np.where(
                is_flipped[:, None, None, None], images[:, :, ::-1], images
            )
        if self.d_dropout:
            seed = np.random.randint(0, 2**31 - 1, 2, np.int32)
        return images, seed

    def rates(
        self, learning_rate: float, epoch: int = 0, epochs: int = 1
    ) -> list[float]:
        """The learning rates of D and of G in an epoch, counted from 0.

        step    times lr_decay_rate from each of lr_decay_epochs on
        linear  falls from epoch E, one of lr_decay_epochs, by equal parts after each
                epoch, and would be zero after the last one (the code of the paper's
                authors)
        """
        factor, decay = 1.0, self._decay_epochs()
        if self.lr_schedule == 'step':
            factor = self.lr_decay_rate ** sum(epoch >= e for e in decay)
        elif self.lr_schedule == 'linear' and epoch > decay[0]:
            factor = 1 - (epoch - decay[0]) / (epochs - decay[0])
        rates = self.learning_rate_d, self.learning_rate_g
        return [(learning_rate if r is None else r) * factor for r in rates]


def _option(name: str, help: str, **fields) -> Flag:
    """The flag of a field of Ways, which is recorded with a training."""
    marks = 'training' if name.endswith('epochs') else 'training result'
    return Flag(name, getattr(Ways, name), help, marks, **fields)


# fmt: off
FLAGS = Group(
    'Training',
    'how networks are updated, docs/recipes.md: --ema, --r1, ...',
    _option('learning_rate_d', 'Learning rate of D; default: --learning_rate',
            type=float, least=0),
    _option('learning_rate_g', 'Learning rate of G; default: --learning_rate',
            type=float, least=0),
    _option('lr_schedule', 'Course of the learning rates; step multiplies them by '
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
    Flag('profile', Ways.profile, 'Iterations of which to write a trace to logs/, such '
         'as 100,110'),
)
