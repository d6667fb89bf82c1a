"""Tiny random models with chat templates like those of models that think before they answer."""

from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

HEAD = "{%- for message in messages %}{%- set said = message['content'] %}{%- set role = message['role'] %}"
TAIL = "{%- endfor %}{%- if add_generation_prompt %}"

QWEN = (  # thinks unless it is told not to; an answer at the end has an empty thought before it
    HEAD + "{{- '<|im_start|>' + role + '\n' }}"
    "{%- if role == 'assistant' and loop.last %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{{- said.split('</think>')[-1].lstrip('\n') if role == 'assistant' else said }}{{- '<|im_end|>\n' }}"
    + TAIL
    + "{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}\n"
)
DEEPSEEK = (  # the template opens the thought, and drops those of earlier turns
    "{{- strftime_now('%d %b %Y') }}"
    + HEAD
    + "{%- if role == 'assistant' %}{{- '<|assistant|>' + said.split('</think>')[-1] + eos_token }}"
    "{%- else %}{{- '<|' + role + '|>' + said }}{%- endif %}" + TAIL + "{{- '<|assistant|><think>\n' }}"
    "{%- endif %}"
)
CHANNELS = (  # gpt-oss: thoughts are messages of their own; the date of today and an effort are written
    "{%- macro about() %}{{- 'Current date: ' + strftime_now('%Y-%m-%d') + '\nReasoning: ' + effort }}"
    "{%- endmacro %}{%- if reasoning_effort is not defined %}{%- set reasoning_effort = 'medium' %}"
    "{%- endif %}{%- set effort = reasoning_effort %}{{- '<|start|>system<|message|>' + about() }}"
    "{{- '<|end|>' }}"
    + HEAD
    + "{%- if role == 'assistant' %}{{- '<|start|>assistant<|channel|>final<|message|>' + said }}"
    "{{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
    "{%- else %}{{- '<|start|>' + role + '<|message|>' + said + '<|end|>' }}{%- endif %}"
    + TAIL
    + "{{- '<|start|>assistant' }}{%- endif %}"
)
MAGISTRAL = (  # asked to think by its system prompt; what marks thoughts are special tokens
    "{{- '[SYSTEM]Think first, between [THINK] and [/THINK].[/SYSTEM]' }}"
    + HEAD
    + "{{- said + eos_token if role == 'assistant' else '[INST]' + said + '[/INST]' }}"
    + "{%- endfor %}"
)
SMOLLM = (  # writes answers without thoughts otherwise only where it is told not to think
    "{{- '<|im_start|>system\nToday is ' + strftime_now('%d %B %Y') + '<|im_end|>\n' }}"
    + HEAD
    + "{{- '<|im_start|>' + role + '\n' }}{%- if role == 'assistant' and enable_thinking is false %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}{{- said + '<|im_end|>\n' }}"
    + TAIL
    + "{{- '<|im_start|>assistant\n' + ('<think>\n\n</think>\n\n' if enable_thinking is false else '') }}"
    "{%- endif %}"
)
KIMI = (  # its marks are put together by macros; answers are between marks, too
    "{%- macro tag(kind, name) %}{{- '<|' + kind + '|>' + name + '<|sep|>' }}{%- endmacro %}"
    + HEAD
    + "{{- tag('open', 'message ' + role) }}{%- if role == 'assistant' %}{{- tag('open', 'think') }}"
    "{{- tag('close', 'think') + tag('open', 'response') + said + tag('close', 'response') }}"
    "{%- else %}{{- said }}{%- endif %}{{- tag('close', 'message') }}"
    + TAIL
    + "{{- tag('open', 'message assistant') + tag('open', 'think') }}{%- endif %}"
)
GLM = (  # every answer of the past has an empty thought; nothing ends a turn but the next one
    HEAD
    + "{{- '<|' + role + '|>' + ('\n<think></think>' if role == 'assistant' else '') + '\n' + said }}"
    + TAIL
    + "{{- '<|assistant|>' }}{%- endif %}"
)
# Each with its special tokens, with those that are none, and with what ends a text.
KINDS: dict[str, tuple[str, list[str], list[str], str]] = {
    "qwen": (QWEN, [], ["<think>", "</think>"], "<|im_end|>"),
    "smollm": (SMOLLM, [], [], "<|im_end|>"),
    "kimi": (KIMI, ["<|open|>", "<|close|>", "<|sep|>"], [], "<|endoftext|>"),
    "glm": (GLM, ["<|user|>", "<|assistant|>"], ["<think>", "</think>"], "<|endoftext|>"),
    "deepseek": (DEEPSEEK, ["<|user|>", "<|assistant|>"], ["<think>", "</think>"], "<|endoftext|>"),
    "channels": (
        CHANNELS,
        ["<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"],
        [],
        "<|return|>",
    ),
    "magistral": (MAGISTRAL, ["[INST]", "[/INST]", "[THINK]", "[/THINK]"], [], "<|endoftext|>"),
}


def thinking_model(tiny_model: Path, folder: Path, kind: str) -> Path:
    """A transformers folder: one layer, 32 wide, with the tiny model's tokens and the kind's."""
    template, special, plain, end = KINDS[kind]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens(plain)
    tokenizer.chat_template, tokenizer.eos_token = template, end
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,  # vLLM's attention on a CPU has no heads of 16
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
