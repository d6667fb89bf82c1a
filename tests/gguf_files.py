"""Small GGUF files: a random Llama of two layers with the tiny model's tokenizer."""

import json
from collections.abc import Collection
from pathlib import Path

import gguf
import numpy as np

HIDDEN, HEADS, KEY_HEADS, FEED, LAYERS = 32, 4, 2, 64, 2


def shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    layer = {
        "attn_norm": (HIDDEN,),
        "ffn_norm": (HIDDEN,),
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (HIDDEN * KEY_HEADS // HEADS, HIDDEN),
        "attn_v": (HIDDEN * KEY_HEADS // HEADS, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN),
        "ffn_gate": (FEED, HIDDEN),
        "ffn_up": (FEED, HIDDEN),
        "ffn_down": (HIDDEN, FEED),
    }
    whole = {"token_embd.weight": (vocabulary, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for number in range(LAYERS):
        whole |= {f"blk.{number}.{name}.weight": shape for name, shape in layer.items()}
    return whole


def write(path: Path, tokenizer_of: Path, without: Collection[str] = (), **more: int) -> Path:
    """A file of all tensors but those ``without``, with ``more`` 16-bit fields ("split_count=3")."""
    bpe = json.loads((tokenizer_of / "tokenizer.json").read_text())["model"]
    words = sorted(bpe["vocab"], key=bpe["vocab"].get)
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in bpe["merges"]]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([3 if word.startswith("<|") else 1 for word in words])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(words.index("<|im_start|>"))
    writer.add_eos_token_id(words.index("<|im_end|>"))
    writer.add_chat_template((tokenizer_of / "chat_template.jinja").read_text())
    for name, value in more.items():
        writer.add_uint16(name.replace("_", "."), value)
    draw = np.random.default_rng(0)
    for name, shape in shapes(len(words)).items():
        if name not in without:
            writer.add_tensor(name, draw.normal(0, 0.1, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
