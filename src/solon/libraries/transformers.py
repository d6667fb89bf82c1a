"""What we use of transformers beyond what it promises to keep. Read in 5.23.0 and in 5.20.2."""

from dataclasses import fields

from transformers import TrainingArguments


def no_activation_checkpointing() -> dict[str, bool]:
    """The training arguments that keep activations, where TRL 1.16.0 would compute them twice.

    5.20.2 knows the second name alone; 5.23.0 knows both, and warns where only the second is given.
    """
    known = {field.name for field in fields(TrainingArguments)}
    return {name: False for name in ("activation_checkpointing", "gradient_checkpointing") if name in known}
