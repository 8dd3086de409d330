"""From pictures back to z: find it, complete pictures, score anomalies."""

from dcgan.inversion.invert import FRAMES, Found, How, invert  # noqa: F401
