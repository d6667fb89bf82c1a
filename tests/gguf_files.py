"""Small GGUF files: a random Llama of two layers with the embedded model's tokenizer."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from solon.models import embedded_file

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


def write(path: Path, without: Collection[str] = (), **more: int) -> Path:
    """A file of all tensors but those ``without``, with ``more`` 16-bit fields ("split_count=3")."""
    reader = gguf.GGUFReader(embedded_file("smollm2"))

    def field(name: str) -> Any:
        return reader.fields[name].contents()

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
    writer.add_vocab_size(len(field("tokenizer.ggml.tokens")))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(field("tokenizer.ggml.pre"))
    writer.add_token_list(field("tokenizer.ggml.tokens"))
    writer.add_token_types(field("tokenizer.ggml.token_type"))
    writer.add_token_merges(field("tokenizer.ggml.merges"))
    writer.add_bos_token_id(field("tokenizer.ggml.bos_token_id"))
    writer.add_eos_token_id(field("tokenizer.ggml.eos_token_id"))
    writer.add_chat_template(field("tokenizer.chat_template"))
    for name, value in more.items():
        writer.add_uint16(name.replace("_", "."), value)
    draw = np.random.default_rng(0)
    for name, shape in shapes(len(field("tokenizer.ggml.tokens"))).items():
        if name not in without:
            writer.add_tensor(name, draw.normal(0, 0.1, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
