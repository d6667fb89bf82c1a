"""A Llama with random weights, for measuring throughput where no real model of its size is at hand.

    python benchmarks/random_llama.py OUT [--tokenizer smollm2] [--hidden 2048 --layers 16 ...]

The default has the shape of a model of 1.0B parameters: 16 layers, 2048 wide, 8 key heads for 32 query heads.
"""

import argparse
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from solon import models
from solon.models import best_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizer", default="smollm2", help="a model whose tokenizer it gets")
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--inner", type=int, default=8192)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--key-heads", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, help="the tokenizer's where not given")
    parser.add_argument("--untied", action="store_true", help="the head is not the embedding")
    asked = parser.parse_args()
    tokenizer = models.load_tokenizer(asked.tokenizer)
    torch.manual_seed(0)
    with torch.device(best_device()):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=asked.vocabulary or len(tokenizer),
                hidden_size=asked.hidden,
                intermediate_size=asked.inner,
                num_hidden_layers=asked.layers,
                num_attention_heads=asked.heads,
                num_key_value_heads=asked.key_heads,
                max_position_embeddings=8192,
                tie_word_embeddings=not asked.untied,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    model.bfloat16().save_pretrained(asked.out)
    tokenizer.save_pretrained(asked.out)
    print(f"{model.num_parameters():,} parameters in {asked.out}")


if __name__ == "__main__":
    main()
