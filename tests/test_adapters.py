"""One base under many adapters: what it computes is what separate whole models compute."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from trl.trainer.utils import add_fused_lm_head
from typer.testing import CliRunner

from solon import adapters, config, marks, models
from solon.cli import app
from solon.errors import SolonError
from solon.policy import preference_model, rollouts, samplers, trl_trainers
from solon.stages import preference, reinforce, supervised
from solon.training import exporting, packing, start
from test_stage_preference import PAIRS
from test_stage_reinforce import prompt_records
from test_stage_supervised import EXAMPLES
from toy_training import metrics_of, unwatched, weights_of

LORA = config.Lora(rank=4, alpha=8)
TOKENS = torch.arange(5, 30)[None]
TRAINING: dict[str, Any] = {
    "lora": LORA,
    "weights": "float32",
    "batch_size": 4,
    "micro_batch_size": 4,
    "learning_rate": 3e-3,
}


@pytest.fixture(scope="module")
def sl_cai(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapters") / "sl-cai"
    supervised.train(EXAMPLES, str(tiny_model), out, config.Supervised(**TRAINING, epochs=5), 0, unwatched)
    return out


@pytest.fixture(scope="module")
def judge(tiny_model: Path, sl_cai: Path) -> Path:
    out = sl_cai.parent / "judge"
    preference.train(PAIRS, str(tiny_model), out, config.PreferenceModel(**TRAINING), 0, unwatched)
    return out


def rl(algorithm: str, **changes: Any) -> config.Reinforce:
    return config.Reinforce(
        algorithm=algorithm,  # type: ignore[arg-type]
        **{
            "steps": 2,
            "prompts_per_step": 4,
            "samples_per_prompt": 2,
            "micro_batch_size": 4,
            "max_tokens": 8,
            "learning_rate": 1e-2,
            "kl_coefficient": 0.1,
            "lora": LORA,
            "weights": "float32",
        }
        | changes,
    )


def apart(monkeypatch: pytest.MonkeyPatch, sl_cai: Path) -> None:
    """From here on the reference, the preference model and the sampler's weights are copies of their own."""
    monkeypatch.setattr(preference_model, "on_one_base", lambda *_: False)
    sampler = rollouts.Sampler
    monkeypatch.setattr(samplers, "Sampler", lambda *given: sampler(*given[:4]))
    settle = trl_trainers.settle_heads

    def with_reference(trainer: Any, temperature: float) -> None:
        trainer.ref_model = models.load_model(str(sl_cai))
        add_fused_lm_head(trainer.ref_model, temperature=temperature, outputs=("log_probs", "entropy"))
        settle(trainer, temperature)

    monkeypatch.setattr(trl_trainers, "settle_heads", with_reference)


@pytest.mark.parametrize("packs", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("algorithm", ["rloo", "grpo", "ppo"])
def test_a_step_is_that_of_separate_models(
    sl_cai: Path, judge: Path, tmp_path: Path, algorithm: str, packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts, "number_type", lambda: "float32")
    if not packs:
        monkeypatch.setattr(packing, "_attends_plainly", lambda _: False)
    whole = tmp_path / "judge"
    exporting.export(judge, whole, merge=True, dtype=None)
    train = partial(reinforce.train, prompt_records(), str(sl_cai), settings=rl(algorithm), seed=1)
    train(str(judge), tmp_path / "shared", progress=unwatched)
    apart(monkeypatch, sl_cai)
    train(str(whole), tmp_path / "apart", progress=unwatched)
    ours, theirs = metrics_of(tmp_path / "shared"), metrics_of(tmp_path / "apart")
    assert ours[-1]["kl"] != 0
    for own, other in zip(ours, theirs, strict=True):
        assert own == pytest.approx(other, abs=1e-5)
    samples = [(tmp_path / each / "samples.jsonl").read_text().splitlines() for each in ("shared", "apart")]
    for own, other in zip(*(map(json.loads, lines) for lines in samples), strict=True):
        assert own["response"] == other["response"]
        assert own["reward"] == pytest.approx(other["reward"], abs=1e-5)
    # AdamW's steps are as long where gradients are nothing but rounding: these are told by their size.
    ours, theirs = weights_of(tmp_path / "shared"), weights_of(tmp_path / "apart")
    for name, weight in ours.items():
        assert (weight - theirs[name]).abs().median() < 1e-5, name


def test_in_rl_no_weight_of_the_base_is_there_twice(sl_cai: Path, judge: Path) -> None:
    from solon.policy.task import Task

    task = Task(prompt_records(), str(sl_cai), str(judge), Path(), rl("rloo"), 0, unwatched)
    policy = start.policy(task.policy, task.settings, {})
    base = {weight.data_ptr() for name, weight in policy.named_parameters() if "lora_" not in name}
    score = preference_model.scoring(task, policy)
    sampler = rollouts.Sampler(task.policy, task.settings, 0, task.role, policy)
    assert sampler._engine._model.network is policy.get_base_model()  # type: ignore[union-attr]
    scorer = score.__closure__
    assert scorer is not None
    of_scorer = next(cell.cell_contents for cell in scorer if isinstance(cell.cell_contents, torch.nn.Module))
    for name, weight in of_scorer.named_parameters():
        assert weight.data_ptr() in base or "lora_" in name or name == "score.weight"
    assert {name for name, weight in policy.named_parameters() if weight.requires_grad} == {
        name for name, _ in policy.named_parameters() if f".{adapters.TRAINED}." in name
    }


def test_in_bfloat16_the_reference_is_the_policy(sl_cai: Path, judge: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wanted = rl("rloo", weights="bfloat16", steps=1)
    metrics = reinforce.train(prompt_records(), str(sl_cai), str(judge), out, wanted, 1, unwatched)
    assert metrics["kl"] == 0
    rewards = [json.loads(line)["reward"] for line in (out / "samples.jsonl").read_text().splitlines()]
    assert len(set(rewards)) > 1
    assert {weight.dtype for weight in weights_of(out).values()} == {torch.float32}


def test_adapters_of_another_shape_are_refused(tiny_model: Path, sl_cai: Path) -> None:
    wanted = config.Supervised(lora=config.Lora(rank=8, alpha=8))
    with pytest.raises(SolonError, match=r"rank 4 and alpha 8.*give lora theirs"):
        start.policy(str(sl_cai), wanted, {})


def test_adapters_are_merged_where_all_weights_are_trained(sl_cai: Path) -> None:
    model = start.policy(str(sl_cai), config.Supervised(), {})
    assert all(weight.requires_grad for weight in model.parameters())
    torch.testing.assert_close(model(TOKENS).logits, models.load_model(str(sl_cai))(TOKENS).logits)


def test_others_adapters_are_a_model_wherever_one_is_named(tiny_model: Path, tmp_path: Path) -> None:
    """Of another kind than ours (DoRA, on two layers), with no tokenizer beside them."""
    settings = LoraConfig(r=2, use_dora=True, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    torch.manual_seed(0)
    theirs = get_peft_model(models.load_model(str(tiny_model)), settings)
    for name, weight in theirs.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    theirs.save_pretrained(tmp_path)
    models.check(str(tmp_path))
    own = theirs(TOKENS).logits
    torch.testing.assert_close(models.load_model(str(tmp_path))(TOKENS).logits, own, atol=1e-4, rtol=1e-4)
    assert (
        models.load_tokenizer(str(tmp_path)).get_vocab() == models.load_tokenizer(str(tiny_model)).get_vocab()
    )
    assert models.weights_hash(str(tmp_path)) != models.weights_hash(str(tiny_model))
    assert models.load_config(str(tmp_path)).vocab_size == models.load_config(str(tiny_model)).vocab_size


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"base_model_name_or_path": None}, "does not say which model"),
        ({"base_model_name_or_path": "/nowhere/at all"}, "which is not here"),
        ({"r": 3}, "cannot be put on the model|do not fit"),
        ({"target_modules": ["nothing"]}, "cannot be put on the model"),
    ],
)
def test_what_is_wrong_with_adapters_is_told(
    sl_cai: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "adapters"
    shutil.copytree(sl_cai, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SolonError, match=said):
        models.load_model(str(folder))


def test_a_mark_goes_with_adapters(sl_cai: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    shutil.copytree(sl_cai, folder)
    assert not marks.origin(str(folder), verified=True).faults
    path = folder / marks.FILE
    path.write_text(path.read_text().replace('"supervised"', '"another"'))
    assert marks.origin(str(folder)).edited


def test_export(sl_cai: Path, judge: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(sl_cai, run / "03-sl-cai")
    shutil.copytree(judge, run / "06-preference-model")
    command = partial(CliRunner().invoke, app, catch_exceptions=False)
    assert command(["export", str(run), "sl-cai", str(tmp_path / "whole"), "--merge"]).exit_code == 0
    assert (tmp_path / "whole/config.json").exists() and not (tmp_path / "whole/metrics.jsonl").exists()
    own = models.load_model(str(sl_cai))(TOKENS).logits
    torch.testing.assert_close(models.load_model(str(tmp_path / "whole"))(TOKENS).logits, own)
    assert not marks.origin(str(tmp_path / "whole"), verified=True).faults
    half = ["export", str(run), "preference-model", str(tmp_path / "half"), "--merge", "--dtype", "bfloat16"]
    assert command(half).exit_code == 0
    assert {weight.dtype for weight in weights_of(tmp_path / "half").values()} == {torch.bfloat16}
    score = models.load_preference_model(str(judge))(TOKENS).logits
    near = models.load_preference_model(str(tmp_path / "half"), trained=True)(TOKENS).logits
    torch.testing.assert_close(near, score, atol=0.02, rtol=0.02)
    assert command(["export", str(run), "supervised", str(tmp_path / "alone")]).exit_code == 0
    torch.testing.assert_close(models.load_model(str(tmp_path / "alone"))(TOKENS).logits, own)
    for wrong in (["supervised", "whole"], ["reinforce", "new"], ["critique", "new"]):
        with pytest.raises(SolonError):
            command(["export", str(run), wrong[0], str(tmp_path / wrong[1])])


def test_a_dialogue_of_the_policy_is_learned_from_twice(
    tiny_model: Path, sl_cai: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    supervised.train(EXAMPLES, str(sl_cai), again, config.Supervised(**TRAINING), 0, unwatched)
    assert metrics_of(again)[0]["loss"] < metrics_of(sl_cai)[0]["loss"]
