"""Solon: train a language model to follow a written constitution."""

from importlib.metadata import version

__version__ = version("solon")
