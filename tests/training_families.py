"""Every family through every training: tiny random models, two steps each, and what is right of it.

    python tests/training_families.py [FAMILY ...]   (a JSON line a family and training; 1 where one is wrong)

"right", "refused" (one SolonError), "wrong" (the training is not what plain passes of transformers say) or
"crashed". What is compared: the first loss of supervised finetuning with that of whole passes, a sequence
each; in RL the same of the sampled answers' log-probabilities; the scores of a preference model; which
weights have changed; and what the checkpoint computes with what the trained model did.
"""

import json
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

from solon import config, models
from solon.errors import SolonError
from solon.libraries.trl import OwnSamples
from solon.policy import ppo
from solon.stages import preference, reinforce, supervised
from solon.training import checkpoints, preference_scores
from toy_training import example, metrics_of, pair, prompt_records, unwatched

# Causal language models of transformers. Encoders, encoder-decoders and speech models are no policies.
FAMILIES = """
apertus arcee aria_text bamba biogpt bitnet cohere cohere2 cohere2_moe deepseek_v2 deepseek_v3 deepseek_v4
dots1 ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon falcon_h1 falcon_mamba flex_olmo gemma gemma2
gemma3_text gemma3n_text gemma4_text glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa gpt2 gpt_bigcode gpt_neo
gpt_neox gpt_oss granite granitemoe granitemoehybrid granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe
hy_v3 internlm3 jamba lfm2 lfm2_moe lfm3 llama llama4_text longcat_flash mamba mamba2 mellum minimax_m2
ministral ministral3 mistral mixtral nemotron nemotron_h olmo olmo2 olmo3 olmoe opt phi phi3 phimoe qwen2
qwen2_moe qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen4_exp_text recurrent_gemma seed_oss
smollm3 solar_open stablelm starcoder2 xglm zamba2 zaya
""".split()  # noqa: SIM905 (a list of them has a line each)

SIZES: dict[str, Any] = {
    **dict.fromkeys(["hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "lru_width"], 64),
    **dict.fromkeys(["intermediate_size", "ffn_dim", "ffn_hidden_size", "intermediate_size_mlp"], 96),
    **dict.fromkeys(["num_hidden_layers", "n_layer", "n_layers", "num_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "attention_heads"], 4),
    **dict.fromkeys(["max_position_embeddings", "n_positions"], 512),
    **dict.fromkeys(["num_experts", "num_local_experts", "n_routed_experts"], 4),
    **dict.fromkeys(["moe_intermediate_size", "shared_expert_intermediate_size"], 32),
    **dict.fromkeys(["sliding_window", "attention_chunk_size", "attention_window_size"], 16),
    **dict.fromkeys(["head_dim", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"], 16),
    **dict.fromkeys(["linear_key_head_dim", "linear_value_head_dim", "mamba_d_head", "mamba_d_state"], 16),
    **dict.fromkeys(["n_group", "topk_group", "first_k_dense_replace", "mamba_n_groups"], 1),
    **dict.fromkeys(
        ["num_key_value_heads", "num_experts_per_tok", "linear_num_key_heads", "mamba_expand"], 2
    ),
    **dict.fromkeys(["hidden_size_per_layer_input", "state_size"], 16),
    **{"q_lora_rank": 32, "qk_head_dim": 32, "linear_num_value_heads": 4, "mamba_n_heads": 8},
    **{"mamba_d_ssm": 128, "num_kv_shared_layers": 0, "rotary_dim": 8},
}
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "deepseek_v2": {"n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "num_key_value_heads": 4},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_heads": 4, "window_size": 16},
    "recurrent_gemma": {"num_hidden_layers": 3},
}
# What families disagree on: settings left out, and others in their place; most like a real one first.
VARIANTS: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["head_dim"], {}),
    (["head_dim"], {"num_key_value_heads": 4}),
    (["head_dim", "layer_types"], {"num_key_value_heads": 4}),
    (["layer_types"], {}),
    (["head_dim", "layer_types", "sliding_window"], {}),
    ([], {"num_hidden_layers": 4}),
    (["head_dim", "qk_head_dim"], {"num_key_value_heads": 4, "num_hidden_layers": 4}),
]
NO_MORE_THAN = 30_000_000  # parameters

TRAININGS = ["sft", "pm", "rloo", "grpo", "ppo"]
TOLERANCE = 2e-3  # nats, and points of a score
QUESTIONS = ["Tea?", "Why do the people in the north drink so much of it?", "How", "Who are you"]
ANSWERS = ["Gladly, with milk.", "It is cold there", "So.", "A model, and no person, as I have said."]


def build(family: str, tokenizer_of: Path, folder: Path) -> str | None:
    """None where the folder is there and transformers itself runs it, else why not."""
    tokenizer, why = AutoTokenizer.from_pretrained(tokenizer_of), "transformers has no such family"
    for without, instead in VARIANTS if family in CONFIG_MAPPING else []:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            torch.manual_seed(0)
            settings = configuration(family, tokenizer, without, instead)
            model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32).eval()
            if model.num_parameters() > NO_MORE_THAN:
                why = "too large"
                continue
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.dim() > 1:
                        weight.mul_(3)  # so that its choices differ clearly
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            prompt = torch.tensor([[5, 6, 7, 8, 9, 10] * 5])
            model.generate(prompt, max_new_tokens=4, do_sample=False)
            model(prompt).logits.sum().backward()
            return None
        except Exception as error:  # the libraries raise all sorts
            why = f"{type(error).__name__}: {error}".splitlines()[0][:150]
    return why


def configuration(family: str, tokenizer: Any, without: list[str], instead: dict[str, Any]) -> Any:
    text = CONFIG_MAPPING[family]().get_text_config()
    size = {"vocab_size": len(tokenizer), "vocab_size_per_layer_input": len(tokenizer)}
    ids = {f"{which}_token_id": getattr(tokenizer, f"{which}_token_id") for which in ("pad", "bos", "eos")}
    wanted = {key: value for key, value in {**SIZES, **size, **instead}.items() if key not in without}
    given = {key: value for key, value in wanted.items() if getattr(text, key, None) is not None}
    kinds = getattr(text, "layer_types", None)
    told = isinstance(getattr(type(text), "layer_types", None), property)  # by other settings
    if kinds and not told and "layer_types" not in without and family not in OWN:
        kinds = list(dict.fromkeys(kinds))
        given["num_hidden_layers"] = max(2, len(kinds))
        given["layer_types"] = (kinds * 2)[: given["num_hidden_layers"]]
    return type(text)(**{**given, **ids, "vocab_size": len(tokenizer), **OWN.get(family, {})})


def measure(training: str, adapters: bool, model: Path, scorer: Path, out: Path) -> tuple[str, str]:
    try:
        wrong = list(faults(training, adapters, model, scorer, out))
    except SolonError as error:
        return "refused", str(error)
    except Exception as error:
        frames = [
            frame for frame in traceback.extract_tb(error.__traceback__) if "libraries" not in frame.name
        ]
        return (
            "crashed",
            f"{type(error).__name__}: {str(error)[:200]} ({frames[-1].name}, {frames[-1].lineno})",
        )
    return ("wrong", "; ".join(wrong)) if wrong else ("right", "")


def faults(training: str, adapters: bool, model: Path, scorer: Path, out: Path) -> Iterator[str]:
    """What is wrong with a training of the model."""
    lora = config.Lora(rank=2, alpha=4) if adapters else None
    small: dict[str, Any] = {"learning_rate": 1e-2, "lora": lora, "weights": "float32"}
    batches = {"batch_size": 2, "micro_batch_size": 2, **small}
    seen: list[str] = []
    with kept(seen) as logits:
        if training == "sft":
            examples = list(map(example, QUESTIONS, ANSWERS))
            settings = config.Supervised(**batches)
            supervised.train(examples, str(model), out, settings, 0, unwatched)
            seen += losses(model, examples, metrics_of(out)[0]["loss"])
        elif training == "pm":
            pairs = [pair(asked, good, "No", 0.9) for asked, good in zip(QUESTIONS, ANSWERS, strict=True)]
            preference.train(pairs, str(model), out, config.PreferenceModel(**batches), 0, unwatched)
            seen += scores(out)
        else:
            steps = {"steps": 2, "prompts_per_step": 2, "samples_per_prompt": 2, "micro_batch_size": 4}
            settings_of_rl = config.Reinforce(
                algorithm=training, max_tokens=6, kl_limit=1e9, **steps, **small
            )
            with answers(training, model, seen):
                reinforce.train(prompt_records(4), str(model), str(scorer), out, settings_of_rl, 0, unwatched)
    yield from seen
    yield from changes(model, out, adapters, training)
    again = loaded(out, training)
    if not torch.allclose(logits[0], again, atol=TOLERANCE):
        yield f"the checkpoint computes otherwise, by {(logits[0] - again).abs().max():.2g}"


TRIED = torch.tensor([[7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26]])


@contextmanager
def kept(seen: list[str]) -> Iterator[list[Tensor]]:
    """Inside, what the trained model computes when it is saved comes into the list."""
    usual, logits = checkpoints.save, []

    def save(model: Any, *rest: Any) -> None:
        inner = model.eval().get_base_model() if isinstance(model, PeftModel) else model.eval()
        with torch.no_grad():  # by the class's method: trainings put others in its place
            logits.append(type(inner).forward(inner, TRIED, use_cache=False).logits.float())
        usual(model, *rest)

    checkpoints.save = save
    try:
        yield logits
    finally:
        checkpoints.save = usual


@torch.no_grad()
def loaded(out: Path, training: str) -> Tensor:
    model = models.load_preference_model(str(out)) if training == "pm" else plain(out)
    logits: Tensor = model(TRIED, use_cache=False).logits.float()
    return logits


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def logprobs_of(model: Any, tokens: list[int], count: int) -> Tensor:
    """Of the last ``count`` tokens, by a pass of their own."""
    logits = model(torch.tensor([tokens]), use_cache=False).logits[0, -count - 1 : -1]
    return logits.float().log_softmax(-1).gather(-1, torch.tensor(tokens[-count:])[:, None])[:, 0]


def losses(folder: Path, examples: list[Any], found: float) -> Iterator[str]:
    """A step's loss is that of one half of the examples or the other; TRL shuffles them."""
    tokenizer, model = models.load_tokenizer(str(folder)), plain(folder)
    each = []
    for row in examples:
        before = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)
        whole = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], return_dict=True)
        count = len(whole["input_ids"]) - len(before["input_ids"])
        each.append((-logprobs_of(model, whole["input_ids"], count).sum().item(), count))
    expected = [
        (first[0] + second[0]) / (first[1] + second[1])
        for number, first in enumerate(each)
        for second in each[number + 1 :]
    ]
    if min(abs(found - one) for one in expected) > TOLERANCE:
        yield f"the first loss is {found:.4f}, by plain passes one of {[round(one, 4) for one in expected]}"


@torch.no_grad()
def scores(folder: Path) -> Iterator[str]:
    model, tokenizer = (
        models.load_preference_model(str(folder), trained=True),
        models.load_tokenizer(str(folder)),
    )
    dialogues = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        for asked in QUESTIONS[:2]
        for said in ANSWERS
    ]
    found = preference_scores.score(model, tokenizer, dialogues, 3)
    expected = [
        model(torch.tensor([tokens]), use_cache=False).logits.item()
        for tokens in preference_scores.tokens_of(tokenizer, dialogues)
    ]
    apart = max(abs(one - other) for one, other in zip(found, expected, strict=True))
    if apart > TOLERANCE * max(1, *map(abs, expected)):
        yield f"scores are {apart:.2g} from those of plain passes"
    if len({round(one, 5) for one in expected}) < 2:
        yield "all scores are the same"


@contextmanager
def answers(training: str, folder: Path, seen: list[str]) -> Iterator[None]:
    """Inside, the first log-probabilities of sampled answers are compared with plain passes."""
    start, done = plain(folder), []

    def compare(rows: Tensor, where: Tensor, length: int, found: Tensor) -> None:
        if done:
            return
        done.append(True)
        for row, at, given in zip(rows, where, found, strict=True):
            # PPO says where an answer begins, TRL where tokens are.
            tokens, count = row[: at + length] if training == "ppo" else row[at.bool()], length
            if training != "ppo":
                count = int(at[-length:].sum())
            expected = logprobs_of(start, tokens.tolist(), count)
            apart = (given[:count].detach().float() - expected).abs().max().item()
            if not apart < TOLERANCE:
                seen.append(f"an answer's log-probabilities are {apart:.2g} nats from those of plain passes")
                return

    kind: Any = ppo.Policy if training == "ppo" else OwnSamples
    name = "forward" if training == "ppo" else "_get_per_token_logps_and_entropies"
    usual: Callable[..., Any] = getattr(kind, name)

    def watched(self: Any, *arguments: Any, **options: Any) -> Any:
        result = usual(self, *arguments, **options)
        rows, where, length = arguments[-3:] if training == "ppo" else arguments[1:4]
        compare(rows, where, length, result[0])
        return result

    setattr(kind, name, watched)
    try:
        yield
    finally:
        setattr(kind, name, usual)
    if not done:
        seen.append("no log-probabilities were computed")


def changes(model: Path, out: Path, adapters: bool, training: str) -> Iterator[str]:
    """With adapters the weights of linear layers and experts change, all of attention's among them."""
    before = dict(plain(model).named_parameters())
    trained = (models.load_preference_model if training == "pm" else models.load_model)(str(out))
    same, other = [], []
    for name, weight in trained.named_parameters():
        if name in before:
            (same if torch.equal(weight, before[name]) else other).append(name)
    if not other:
        yield "no weight has changed"
    if adapters:
        linear = {
            f"{name}.weight"
            for name, module in plain(model).named_modules()
            if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
        }
        strange = [name for name in other if name not in linear and "expert" not in name]
        strange += [name for name in other if "lm_head" in name]
        if strange:
            yield f"adapters have changed {strange[:3]}"
        missed = [name for name in same if name in linear and "lm_head" not in name and "expert" not in name]
    else:
        missed = [name for name in same if before[name].dim() > 1 and "expert" not in name]
    if len(missed) > len(other):
        yield f"{len(missed)} weights are as they were, such as {missed[:3]}"


def main(names: list[str]) -> int:
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    from conftest import tiny_llama

    told: dict[str, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as place:
        llama = tiny_llama(Path(place) / "tokenizer")
        scorer = Path(place) / "scorer"
        pairs = [pair(asked, "Yes.", "No", 0.9) for asked in QUESTIONS]
        small = config.PreferenceModel(batch_size=2, micro_batch_size=2)
        preference.train(pairs, str(llama), scorer, small, 0, unwatched)
        for family in names:
            folder = Path(place) / family
            if why := build(family, llama, folder):
                print(json.dumps({"family": family, "status": "not to be had", "note": why}), flush=True)
                continue
            for training in TRAININGS:
                for adapters in (False, True):
                    out = folder / f"{training}-{adapters}"
                    status, note = measure(training, adapters, folder, scorer, out)
                    told[family].append(status)
                    line = {"family": family, "training": training, "lora": adapters, "status": status}
                    print(json.dumps({**line, "note": note[:400]}), flush=True)
                    shutil.rmtree(out, ignore_errors=True)
            shutil.rmtree(folder)
    count = Counter(status for statuses in told.values() for status in statuses)
    print(json.dumps(count))
    return 1 if count["wrong"] or count["crashed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or FAMILIES))
