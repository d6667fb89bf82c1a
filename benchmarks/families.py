"""Few-shot chains a second on random models of families whose attention is not the plain kind.

    python benchmarks/families.py [--chains 16] [--tokens 32] [--runs 3] [--plain] [FAMILY ...] > result.json

Every family gets a model of the same size. The sides run the same critique-revision chains (answer, critique,
revision) by turns in one process: the engine that Solon opens for it, ``model.generate`` turn by turn in one
batch, and if asked Solon's plain engine, which leaves everything to ``generate``.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import side_by_side
import torch
from critique_chains import plain
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerBase

from solon import constitution, models
from solon.config import Critique, EngineSettings
from solon.constitution import Constitution
from solon.inference import open_engine
from solon.inference.engine import Chain, Completion, Engine, Request
from solon.inference.plain_engine import PlainEngine
from solon.prompts.critique import worked_examples
from solon.prompts.dialogue import assistant, user
from solon.records import PromptRecord
from solon.seeds import generator
from solon.sources import data

LAYERS = 8
COMMON: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "max_position_embeddings": 8192,
    "sliding_window": 512,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
LINEAR = {
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 8,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
}
MAMBA = {
    "mamba_d_ssm": 512,
    "mamba_n_heads": 16,
    "mamba_d_head": 32,
    "mamba_d_state": 32,
    "mamba_n_groups": 1,
    "mamba_num_heads": 16,
    "mamba_head_dim": 32,
    "ssm_state_size": 32,
    "n_groups": 1,
}
LATENT = {
    "num_key_value_heads": 8,
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},  # the plain kind, to compare
    "gemma2": {},
    "gpt_oss": EXPERTS,
    "llama4_text": EXPERTS | {"attention_chunk_size": 512, "intermediate_size_mlp": 768},
    "gemma4_text": {"hidden_size_per_layer_input": 32, "num_kv_shared_layers": 0, "global_head_dim": 64},
    "deepseek_v3": EXPERTS | LATENT,
    "qwen3_next": EXPERTS | LINEAR | {"shared_expert_intermediate_size": 256},
    "qwen3_5_text": LINEAR,
    "lfm2": {},
    "nemotron_h": MAMBA,
    "falcon_h1": MAMBA,
    "recurrent_gemma": {"lru_width": 256, "attention_window_size": 512},  # left to generate, as the next
    "falcon_mamba": {},
    "deepseek_v4": EXPERTS | LATENT,
}


def build(name: str, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    kind = type(CONFIG_MAPPING[name]().get_text_config())
    default = kind()
    given = {key: value for key, value in (COMMON | FAMILIES[name]).items() if hasattr(default, key)}
    types = getattr(default, "layer_types", None)
    if types and "layer_types" in default.to_dict():  # else others make them
        kinds = list(dict.fromkeys(types))
        given["layer_types"] = (kinds * LAYERS)[:LAYERS]
    sizes = {"vocab_size": len(tokenizer), "vocab_size_per_layer_input": len(tokenizer)}
    ids = {f"{which}_token_id": getattr(tokenizer, f"{which}_token_id") for which in ("pad", "bos", "eos")}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(kind(**given, **sizes, **ids), dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def chains(
    prompts: Sequence[PromptRecord], law: Constitution, settings: Critique
) -> Iterator[Chain[Completion]]:
    """What ``critique_chains.plain`` asks, one request after the other."""
    shots = worked_examples(law.examples.critique, True)

    def turn(id: str, dialogue: Sequence[Any]) -> Request:
        return Request(
            id,
            dialogue,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
        )

    def chain(record: PromptRecord) -> Chain[Completion]:
        id, prompt = record["id"], record["prompt"]
        current = yield turn(id, prompt)
        for number in range(settings.rounds):
            principle = law.draw_critique(generator(0, id, number))
            dialogue = [*shots, *prompt, assistant(current.text), user(principle.critique_request)]
            found = yield turn(id, dialogue)
            current = yield turn(id, [*dialogue, assistant(found.text), user(principle.revision_request)])
        return current

    return map(chain, prompts)


def measure(name: str, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    tokenizer = models.load_tokenizer("smollm2")
    tokenizer.padding_side = "left"
    build(name, tokenizer, folder)
    settings = Critique(
        rounds=asked.rounds, few_shot=True, temperature=0.7, top_p=1.0, max_tokens=asked.tokens
    )
    law = constitution.load("harmless")
    prompts = data.select(data.prompts("packaged", "red-team"), "train", asked.chains, 0)
    model = models.load_model(str(folder), torch.float32).to(side_by_side.DEVICE)
    engine_settings = EngineSettings(dtype="float32", batch_size=asked.chains)

    def by(engine: Engine) -> int:
        engine.forget()
        return len(list(engine.run_chains(chains(prompts, law, settings))))

    with open_engine(str(folder), engine_settings) as ours:
        sides = {
            "ours": lambda: by(ours),
            "generate": lambda: plain(model, tokenizer, prompts, law, settings, asked.chains),
        }
        if asked.plain:
            whole = PlainEngine(str(folder), engine_settings)
            sides["plain engine"] = lambda: by(whole)
        rates = side_by_side.by_turns(sides, asked.runs)
        usage = ours.usage
    return {
        "engine": type(ours).__name__,
        "computed": round(usage.tokens_computed / usage.tokens_naive, 3),
        **{
            f"{side} / generate": {
                "ratio": round(rates[side][0] / rates["generate"][0], 2),
                "by processor time": round(rates[side][1] / rates["generate"][1], 2),
            }
            for side in rates
            if side != "generate"
        },
        "chains a second": {side: round(rate, 3) for side, (rate, _) in rates.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="the plain engine as a third side")
    asked = parser.parse_args()
    found = {}
    for name in asked.families or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(name, asked, Path(folder))
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    side_by_side.show(benchmark="few-shot chains/s by families", asked=vars(asked), families=found)


if __name__ == "__main__":
    main()
