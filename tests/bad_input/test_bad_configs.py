"""Configurations that ``solon run`` must refuse, before it makes the run folder."""

from pathlib import Path

import pytest
from refusals import Case, case, named, place, refused

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

CASES = [
    # not YAML, or not a mapping
    case("not YAML", "seed: [1\n", "line 2: not valid YAML", "mend it there"),
    case("tab", "critique:\n\trounds: 1\n", "line 2: not valid YAML", "indent with spaces"),
    case("a list", "- seed\n", "line 1: expected fields such as 'name:', found a list"),
    case("a text", "seed\n", "line 1: expected fields"),
    case("two documents", "seed: 1\n---\nseed: 2\n", "line 2: not valid YAML", "mend it there"),
    case("a colon in a value", "constitution: a: b\n", "line 1: not valid YAML", "mend it there"),
    case("an open quote", 'constitution: "a\nseed: 1\n', "not valid YAML", "mend it there"),
    case("an unknown alias", "seed: *a\n", "line 1: not valid YAML", "undefined alias"),
    case(
        "a Python tag", "seed: !!python/object/apply:os.system ['true']\n", "line 1: not valid YAML", "mend"
    ),
    case("an unknown tag", "seed: !seed 1\n", "line 1: not valid YAML", "mend it there"),
    case("no integer", "seed: !!int one\n", "line 1: 'one' is no valid int", "quote it"),
    case("no date", "seed: 2026-13-45\n", "line 1: '2026-13-45' is no valid timestamp", "change it"),
    case("no timestamp", "seed: !!timestamp now\n", "line 1: 'now' is no valid timestamp", "change it"),
    case(
        "no truth value",
        "critique:\n few_shot: !!bool maybe\n",
        "line 2: 'maybe' is no valid bool",
        "change it",
    ),
    case("an empty integer", "seed: !!int ''\n", "line 1: '' is no valid int", "change it"),
    case("a list as key", "? [a, b]\n: 1\n", "line 1: not valid YAML", "mend it there"),
    case(
        "repeated key", "seed: 1\nseed: 2\n", "line 2: 'seed' is given a second time", "remove one of the two"
    ),
    case("repeated section", "critique: {rounds: 1}\nseed: 1\ncritique: {rounds: 2}\n", "line 3: 'critique'"),
    case(
        "repeated inside", "critique:\n  rounds: 1\n  rounds: 2\n", "line 3: 'rounds' is given a second time"
    ),
    case("alias bomb", BOMB, "line 7: its aliases", "write less"),
    case("alias of itself", "critique: &a\n  rounds: *a\n", "line 1: its aliases", "write"),
    case("nested too deep", "seed: " + "[" * 5000 + "]" * 5000 + "\n", "nested too deep", "write it flat"),
    # not text
    case(
        "bad UTF-8",
        b"seed: 1\nconstitution: caf\xe9.yaml\n",
        "line 2: not UTF-8 text",
        "save the file as UTF-8",
    ),
    case("UTF-16", "seed: 1\n".encode("utf-16"), "line 1: not UTF-8 text", "save the file as UTF-8"),
    case("NUL byte", b"seed: 1\nconstitution: a\0b\n", "line 2: not valid YAML", "#x0000", "remove it"),
    case("a control character", b"seed: \x1b[1m\n", "line 1: not valid YAML", "#x001b", "remove it"),
    case("a folder", Path.mkdir, "is not a file", "check the path"),
    case("a binary file", bytes(range(256)) * 100, "line 2: not UTF-8 text", "save the file as UTF-8"),
    case("a huge file", "seed: 1\n" + "#" * 11_000_000, "is larger than", "check the path"),
    case("missing", lambda _: None, "does not exist", "check the path"),
    # unknown fields
    case("unknown section", "critic: {rounds: 1}\n", "line 1: critic is not a known field", "'critique'"),
    case("unknown setting", "critique:\n  round: 1\n", "line 2: critique.round is not a known", "'rounds'"),
    case("unknown below", "engine: {openai: {baseurl: x}}\n", "engine.openai.baseurl is not", "'base_url'"),
    case(
        "unknown, like none",
        "zzz: 1\n",
        "line 1: zzz is not a known field",
        "remove it or check its spelling",
    ),
    case("wrong case", "Seed: 1\n", "line 1: Seed is not a known field", "'seed'"),
    case("a hyphen", "preference-model: {epochs: 1}\n", "preference-model is not", "'preference_model'"),
    case(
        "in the wrong section", "critique: {learning_rate: 1.0e-5}\n", "critique.learning_rate is not a known"
    ),
    case("numbers as fields", "1: 2\n", "line 1: [1] is 1", "check its spelling"),
    case("null as a field", "null: 2\n", "line 1", "check its spelling"),
    # values
    case("text for a number", "seed: many\n", "line 1: seed is 'many'", "valid integer", "change it"),
    case("a fraction", "critique: {rounds: 1.5}\n", "critique.rounds is 1.5", "change it"),
    case("a list for a section", "critique: [1]\n", "line 1: critique is [1]", "write them below it"),
    case("a number for a section", "models: 3\n", "line 1: models is 3", "write them below it"),
    case("an empty section", "critique:\n", "line 1: critique is empty", "write what belongs there"),
    case("a number for a name", "models: {assistant: 3}\n", "models.assistant is 3", "change it"),
    case(
        "a prior of reasoning",
        "feedback: {chain_of_thought: true, prior_correction: true}\n",
        "feedback",
        "named without reasoning; turn it or chain_of_thought off",
    ),
    case(
        "rounds below none", "critique: {rounds: -1}\n", "critique.rounds is -1", "greater than or equal to 0"
    ),
    case("a negative count", "prompts: {generate: -1}\n", "prompts.generate is -1", "change it"),
    case("cold", "comparison: {temperature: -0.1}\n", "comparison.temperature is -0.1", "change it"),
    case("top_p of 0", "critique: {top_p: 0}\n", "critique.top_p is 0", "greater than 0"),
    case("top_p past 1", "critique: {top_p: 1.1}\n", "critique.top_p is 1.1", "less than or equal to 1"),
    case("no number", "critique: {temperature: .nan}\n", "critique.temperature is nan", "change it"),
    case("infinite", "supervised: {learning_rate: .inf}\n", "supervised.learning_rate is inf", "change it"),
    case(
        "an infinite KL",
        "reinforce: {kl_coefficient: .inf}\n",
        "reinforce.kl_coefficient is inf",
        "change it",
    ),
    case(
        "unknown choice",
        "reinforce: {algorithm: sac}\n",
        "reinforce.algorithm is 'sac'",
        "'rloo'",
        "change it",
    ),
    case("unknown kind", "engine: {kind: magic}\n", "engine.kind is 'magic'", "change it"),
    case("unknown type", "engine: {dtype: int4}\n", "engine.dtype is 'int4'", "'bfloat16'"),
    case("unknown device", "engine: {device: gpu}\n", "engine.device is 'gpu'", "cuda", "change it"),
    case(
        "no micro-batches",
        "supervised: {batch_size: 9, micro_batch_size: 8}\n",
        "batch_size is 9",
        "change one",
    ),
    case(
        "no revisions to learn from",
        "{feedback: {method: revision}, critique: {rounds: 0}}\n",
        "critique.rounds is 0",
        "give it 1 or more",
    ),
    case("one sample", "reinforce: {samples_per_prompt: 1}\n", "samples_per_prompt is 1", "give 2 or more"),
    case("clamp the wrong way", "feedback: {clamp: [0.6, 0.4]}\n", "feedback.clamp is", "swap the two"),
    case("clamp of one", "feedback: {clamp: [0.4]}\n", "feedback.clamp[1] is missing", "add it"),
    case("clamp past 1", "feedback: {clamp: [0.4, 60]}\n", "feedback.clamp[1] is 60", "change it"),
    case("no principles", "feedback: {principles: none}\n", "feedback.principles is 'none'", "'all'"),
    case("all held out", "preference_model: {held_out: 1}\n", "preference_model.held_out is 1", "change it"),
    case(
        "a key in the URL",
        "engine: {openai: {base_url: 'http://me:pw@host/v1'}}\n",
        "base_url has a user name or password",
        "OPENAI_API_KEY",
    ),
    case(
        "no URL",
        "engine: {openai: {base_url: localhost}}\n",
        "engine.openai.base_url is 'localhost'",
        "change it",
    ),
    case(
        "unknown report",
        "supervised: {report_to: [mlflow]}\n",
        "supervised.report_to[0] is 'mlflow'",
        "'wandb'",
    ),
    case(
        "a text of reports",
        "supervised: {report_to: wandb}\n",
        "supervised.report_to is 'wandb'",
        "change it",
    ),
    case("lora without rank", "supervised: {lora: {rank: 0}}\n", "supervised.lora.rank is 0", "change it"),
    case("lora is true", "supervised: {lora: true}\n", "supervised.lora is True", "write them below it"),
    # what it names is not there, or cannot be used
    case(
        "unknown constitution", "constitution: harmles\n", "no constitution is called 'harmles'", "'harmless'"
    ),
    case("missing constitution", "constitution: mine.yaml\n", "mine.yaml does not exist", "check the path"),
    case("unknown model", "models: {assistant: smolm2}\n", "model 'smolm2' is not known", "'smollm2'"),
    case(
        "missing folder", "models: {policy: ./none}\n", "model './none' is not known", "a transformers folder"
    ),
    case(
        "policy on a server", "models: {policy: 'openai:x'}\n", "models.policy is 'openai:x'", "local model"
    ),
    case("server without a name", "models: {feedback: 'openai:'}\n", "models.feedback", "openai:NAME"),
    case(
        "missing prompts",
        "prompts: {red_team: {source: none.jsonl}}\n",
        "none.jsonl does not exist",
        "check",
    ),
    case(
        "unknown source",
        "prompts: {helpful: {source: prompts.txt}}\n",
        "prompts.txt",
        "give 'datasets:NAME'",
    ),
    case("too many prompts", "prompts: {red_team: {train: 99999}}\n", "99999 train prompts", "ask for fewer"),
    case(
        "human labels of harm",
        "preference_model: {helpfulness: harmless.jsonl}\n",
        "human harmlessness",
        "name",
    ),
    case("too many principles", "feedback: {principles: 99}\n", "99 were asked for", "ask for 'all'"),
    case("an empty name", "constitution: ''\n", "constitution", "packaged are"),
    case("an empty source", "prompts: {red_team: {source: ''}}\n", "unknown kind of source", "give"),
]


@named(CASES)
def test_is_refused(
    broken: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    path = place(broken.content, tmp_path / "config.yaml")
    quick = [] if "models" in str(broken.content) else ["--set", f"models.assistant={tiny_model}"]
    refused(capsys, tmp_path, broken.says, "run", path, *quick)


SETTINGS = [
    ("critique.rounds", "--set 'critique.rounds' is no assignment", "write it as"),
    ("=1", "--set '=1' is no assignment", "write it as"),
    ("critique..rounds=1", "is no assignment", "write it as"),
    ("critique.rounds=[1", "critique.rounds line 1: not valid YAML", "mend it there"),
    ("critique.rounds=!!int x", "'x' is no valid int", "quote it"),
    ("seed=" + "[" * 5000, "is nested too deep", "write it flat"),
    ("critique.round=1", "critique.round is not a known field", "'rounds'"),
    ("critique.rounds=-1", "laid over it: critique.rounds is -1", "change it"),
    ("critique={rounds: 1, rounds: 2}", "'rounds' is given a second time", "remove one"),
    ("seed=1970-99-99", "is no valid timestamp", "quote it"),
    ("seed=\0", "the character #x0000", "remove it"),
]


@pytest.mark.parametrize(("setting", "says", "mend"), SETTINGS, ids=[each[0][:30] for each in SETTINGS])
def test_a_setting_is_refused(
    setting: str, says: str, mend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place("seed: 1\n", tmp_path / "config.yaml")
    refused(capsys, tmp_path, (says, mend), "run", path, "--set", setting)


def test_a_folder_named_as_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place("{}\n", tmp_path / "config.yaml")
    out = place("not a folder", tmp_path / "out")
    refused(capsys, tmp_path, (f"{out} is not a folder", "give another"), "run", path, "--dir", out)
    below = out / "below"
    refused(capsys, tmp_path, (f"{out}", "not a folder"), "run", path, "--dir", below)
