"""Engines that run models: they generate texts and score choices."""

from solon.config import EngineSettings
from solon.inference.engine import Engine


def open_engine(model: str, settings: EngineSettings) -> Engine:
    """The engine that ``settings.kind`` names, with ``model`` loaded."""
    from solon.inference.transformers_engine import TransformersEngine  # not needed until a model is

    return TransformersEngine(model, settings)
