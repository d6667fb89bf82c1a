"""Where prompts, comparisons and examples come from: tables, dialogues in their rows, the paper's files."""
