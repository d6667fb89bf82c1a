"""How models are run: by which engine or server, and on how many machines."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def without_key(url: Any) -> Any:
    if "@" in str(url):  # not shown: it may be the key
        raise ValueError("has a user name or password in it; leave it out and set OPENAI_API_KEY")
    return url


def of_variable(name: Any) -> Any:
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)):  # nor is this shown
        raise ValueError("is no name of an environment variable; put the key there, and its name here")
    return name


OPENAIS_KEY = "OPENAI_API_KEY"

Url = Annotated[str, Field(pattern=r"^https?://."), BeforeValidator(without_key)]
Variable = Annotated[str, BeforeValidator(of_variable)]
Mode = Literal["chat", "completion"]
Price = Annotated[float, Field(ge=0)]


class OpenAISettings(Section):
    """How models named ``openai:NAME`` are reached. The key is in the environment."""

    # None: OPENAI_BASE_URL, or else OpenAI's own server. No user name or password in it.
    base_url: Url | None = None
    key_variable: Variable = OPENAIS_KEY  # of the environment, with the key
    mode: Mode = "chat"
    tokenizer: str | None = None  # completion mode: a model with the same tokenizer; NAME by default
    continue_final_message: bool = False  # chat mode: the server continues an assistant's message (vLLM does)
    votes: Positive = 5  # answers sampled for a question where the server gives no log-probabilities
    retries: Count = 14  # more than a minute of waiting, so that a server may be started anew
    timeout: float = Field(default=120, gt=0)  # seconds for one try
    time_limit: float = Field(default=900, gt=0)  # seconds for a request with all its tries
    input_price: Price = 0  # of a million tokens, in any currency
    output_price: Price = 0
    extra_body: dict[str, Any] = Field(default={})  # sent with every request: what else the server takes
    budget: float | None = Field(default=None, gt=0)  # most that one command may spend, at these prices
    token_budget: Positive | None = None  # most tokens, read and written, that one command may pay for


class VLLMSettings(Section):
    """What only the vllm engine needs to know. The names are vLLM's own."""

    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)  # share of each GPU's memory that it takes
    tensor_parallel_size: Positive = 1  # GPUs that share the model
    enforce_eager: bool = False  # nothing is compiled: starts sooner, runs slower


class EngineSettings(Section):
    kind: Literal["transformers", "generate", "vllm"] = "transformers"
    # auto: the faster of the two where measured; 4bit: weights are held so, not multiplied
    dtype: Literal["auto", "float32", "bfloat16", "float16", "4bit"] = "auto"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    batch_size: Positive = 64  # sequences decoded together, or requests with the server at a time
    vllm: VLLMSettings = VLLMSettings()
    openai: OpenAISettings = OpenAISettings()


USUAL_ENGINE = EngineSettings()


class TrainingScale(Section):
    processes: Positive = 1  # one a GPU; what is computed is that of one process with the same batch_size
    strategy: Literal["ddp", "fsdp"] = "ddp"  # fsdp shares the weights out over the processes
    # in their place: a command that starts the processes, e.g. accelerate launch --config_file FILE
    launcher: Annotated[str | None, Field(min_length=1)] = None


class Scale(Section):
    """More than one engine and more than one training process, on one machine or many."""

    engine: Literal["ray"] | None = None  # ray: replicas of the engine as actors of a Ray cluster
    replicas: Positive = 1
    cpus: Positive = 1  # cores that Ray sets aside for a replica; on a CPU also its threads
    gpus: Count | None = None  # the same for GPUs; as many as the engine takes by default
    training: TrainingScale = TrainingScale()
