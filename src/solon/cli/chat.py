"""``solon chat``: talk to a model."""

from typing import Annotated

import typer
from rich.console import Console

from solon.cli.show import quiet_libraries
from solon.config import EngineSettings
from solon.inference import open_engine
from solon.inference.engine import Request
from solon.prompts.dialogue import assistant, user
from solon.records import Message
from solon.seeds import derive_seed


def chat(
    model: Annotated[
        str, typer.Argument(help="'smollm2', a transformers folder, a .gguf file or a hub name.")
    ],
    temperature: Annotated[float, typer.Option(min=0, help="0 always takes the likeliest token.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1)] = 512,
    seed: int = 0,
) -> None:
    """Talk to a model; an empty line or Ctrl-D ends it."""
    quiet_libraries()
    console = Console(highlight=False)
    engine = open_engine(model, EngineSettings(batch_size=1))
    dialogue: list[Message] = []
    while text := _line(console):
        dialogue.append(user(text))
        request = Request(
            str(len(dialogue)),
            dialogue,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=derive_seed(seed, len(dialogue)),
        )
        [completion] = engine.generate([request])
        dialogue.append(assistant(completion.text))
        if completion.thinking:
            console.print(completion.thinking, markup=False, style="dim")
        console.print(completion.text, markup=False)
    engine.close()


def _line(console: Console) -> str:
    try:
        return console.input("[bold]you:[/bold] ").strip()
    except EOFError:
        return ""
