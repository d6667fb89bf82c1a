"""Solon's evaluations as tasks of Inspect, and Solon's engines as one of its model providers.

Inspect finds this module through the entry point in ``pyproject.toml``: ``inspect eval solon/hhh --model
solon/smollm2 -T data=FILE``.
"""

from solon.inspect_tasks.model import provider
from solon.inspect_tasks.tasks import evasiveness, harm, hhh, over_refusal, preferences

__all__ = ["evasiveness", "harm", "hhh", "over_refusal", "preferences", "provider"]
