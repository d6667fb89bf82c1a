"""Texts are encoded piece by piece as the tokenizer encodes them whole."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from solon.inference.dialogue_tokens import DialogueTokens, marks
from solon.models import load_model, load_tokenizer

TEXT = (Path(__file__).parent / "tokenizer_text.txt").read_text()


def in_the_manner_of_llama_2(first: str) -> PreTrainedTokenizerFast:
    """Spaces are letters, and a text gets one before it ("always", or only where the whole text begins)."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=first)
    bpe.normalizer = normalizers.NFC()
    bpe.decoder = decoders.Metaspace(prepend_scheme=first)
    bpe.train_from_iterator([TEXT], BpeTrainer(vocab_size=400, special_tokens=["<unk>", "<s>", "</s>"]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>", unk_token="<unk>")
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["[INST]", AddedToken("[/INST]", rstrip=True)]}
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + m['content'] + '</s>' }}{% endfor %}"
    return tokenizer


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "smollm2": lambda: load_tokenizer("smollm2"),
    "always": lambda: in_the_manner_of_llama_2("always"),
    "first": lambda: in_the_manner_of_llama_2("first"),
    "never": lambda: in_the_manner_of_llama_2("never"),
}
PARTS = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]", "user\n", " ", "\n", "<|im_", "é"]


@pytest.fixture(scope="module", params=TOKENIZERS)
def dialogue(request: pytest.FixtureRequest) -> DialogueTokens:
    return DialogueTokens(TOKENIZERS[request.param](), load_model("smollm2"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=12), max_size=12))
def test_pieces_are_encoded_as_the_whole_is(dialogue: DialogueTokens, parts: list[str]) -> None:
    text = "".join(parts)
    assert dialogue._encode(text).tolist() == dialogue.tokenizer.encode(text, add_special_tokens=False)


def test_tokens_that_take_spaces_are_no_marks() -> None:
    assert set(marks(in_the_manner_of_llama_2("first"))) == {"<unk>", "<s>", "</s>", "[INST]"}


def test_what_comes_again_is_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    dialogue = DialogueTokens(load_tokenizer("smollm2"), load_model("smollm2"))
    encoded = []
    encode = dialogue.tokenizer.encode
    monkeypatch.setattr(
        dialogue.tokenizer, "encode", lambda text, **options: encoded.append(text) or encode(text, **options)
    )
    shots = [{"role": "user", "content": "Say one."}, {"role": "assistant", "content": "One."}]
    for question in ("Say two.", "Say three."):
        text, tokens = dialogue.prompt([*shots, {"role": "user", "content": question}], "")
        dialogue.continuation(text, tokens, "A", prefilled=False)
    assert sum("Say one." in text for text in encoded) == 1
    assert sum("Say three." in text for text in encoded) == 1
