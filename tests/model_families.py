"""Tiny random models of families whose attention, or what stands in its place, is not the plain kind."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
}
LATENT: dict[str, Any] = {  # keys are wider than values
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},  # the plain kind
    "gemma2": {"head_dim": 16, "sliding_window": 16},  # caps its scores
    "gpt_oss": {
        "head_dim": 16,
        "sliding_window": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },  # sinks
    "llama4_text": {
        "head_dim": 16,
        "attention_chunk_size": 16,
        "num_local_experts": 2,
        "intermediate_size_mlp": 96,
        "layer_types": ["chunked_attention", "full_attention"],
    },
    "gemma4_text": {  # layers with heads of different shapes
        "head_dim": 16,
        "sliding_window": 16,
        "hidden_size_per_layer_input": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "num_kv_shared_layers": 0,
    },
    "deepseek_v3": LATENT,
    "qwen3_next": {"head_dim": 16, "shared_expert_intermediate_size": 32, **EXPERTS, **LINEAR},
    "qwen3_5_text": {"head_dim": 16, **LINEAR},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "falcon_h1": {  # a recurrent state beside attention
        "head_dim": 16,
        "mamba_d_ssm": 128,
        "mamba_n_heads": 8,
        "mamba_d_head": 16,
        "mamba_d_state": 16,
        "mamba_n_groups": 1,
    },
    "nemotron_h": {  # layers without any states, too
        "head_dim": 16,
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "ssm_state_size": 16,
        "n_groups": 1,
        "layers_block_type": ["mamba", "attention"],
    },
    "glm_moe_dsa": {  # an index of keys beside them
        **LATENT,
        "index_topk": 16,
        "index_n_heads": 16,
        "index_head_dim": 32,
    },
    "deepseek_v4": {  # its compressed keys cannot be padded
        "head_dim": 32,
        "num_key_value_heads": 1,
        "q_lora_rank": 32,
        "qk_rope_head_dim": 16,
        "o_lora_rank": 16,
        "o_groups": 2,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "sliding_window": 16,
        "layer_types": ["compressed_sparse_attention", "heavily_compressed_attention"],
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
        "index_topk": 16,
        "index_n_heads": 16,
        "index_head_dim": 32,
    },
    "recurrent_gemma": {  # its modules keep their states themselves
        "head_dim": 16,
        "lru_width": 64,
        "attention_window_size": 16,
        "block_types": ["recurrent", "attention"],
    },
    "falcon": {},
    "stablelm": {},
    "xglm": {"d_model": 64, "num_layers": 2, "attention_heads": 4, "ffn_dim": 96},
}


def family(name: str, tokenizer_of: Path, folder: Path) -> Path:
    """A folder with such a model, and the tokenizer of another."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    kind = type(CONFIG_MAPPING[name]().get_text_config())
    ids = {f"{which}_token_id": getattr(tokenizer, f"{which}_token_id") for which in ("pad", "bos", "eos")}
    settings = COMMON | FAMILIES[name] | ids | {"vocab_size": len(tokenizer)}
    if name == "gemma4_text":
        settings["vocab_size_per_layer_input"] = len(tokenizer)
    config = kind(**settings)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(4)  # so that its choices differ clearly
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
