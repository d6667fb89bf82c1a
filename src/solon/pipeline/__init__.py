"""The method from beginning to end in a run folder; ``method.STAGES`` is the table of its stages."""

from solon.pipeline.runner import run

__all__ = ["run"]
