"""Solon: train a language model to follow a written constitution."""

import logging
from importlib.metadata import version

__version__ = version("solon")

# Where it is installed, PEFT imports it, and it warns of a kernel from elsewhere that is never used here.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
