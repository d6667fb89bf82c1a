"""The key to a server is written nowhere: not by a whole run that needs it, and not by one that fails."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import fails, solon

SERVER = Path(__file__).parent / "openai_server.py"
KEY = "sk-planted-4f1c9be07d2a"
WRONG = "sk-wrong-88ab31cc05"

RUN = """
models: {{assistant: {model}, feedback: "openai:tiny"}}
engine:
  dtype: float32
  device: cpu
  batch_size: 8
  openai: {{base_url: "{url}", mode: completion, tokenizer: {model}, retries: 0}}
prompts: {{red_team: {{train: 8, held_out: 2}}, helpful: {{train: 4, held_out: 2}}}}
critique: {{rounds: 1, max_tokens: 240, few_shot: false}}  # long: some texts must be whole
supervised: {{batch_size: 4, micro_batch_size: 4}}
comparison: {{max_tokens: 8}}
feedback: {{few_shot: false}}
preference_model: {{batch_size: 4, micro_batch_size: 4, held_out: 0.3, helpfulness: ai}}
reinforce: {{steps: 1, prompts_per_step: 2, samples_per_prompt: 2, micro_batch_size: 4, max_tokens: 4}}
evaluation: {{max_tokens: 4, bootstrap: 20}}
"""


@pytest.fixture(scope="module")
def locked(tiny_model: Path) -> Iterator[str]:
    """The address of a server that lets nobody in without the key."""
    environment = {**os.environ, "LOCKED_WITH": KEY}
    command = [sys.executable, str(SERVER), str(tiny_model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/locked/v1"
        process.terminate()


def found(secret: str, folder: Path, printed: pytest.CaptureFixture[str]) -> list[str]:
    """Where the secret, or its beginning, stands: the files below ``folder`` and what was printed."""
    said, secret = printed.readouterr(), secret[:12]
    files = [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    return [*map(str, files), *(["printed"] if secret in said.out + said.err else [])]


def test_a_whole_run_writes_its_key_nowhere(
    locked: str,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    config, folder = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(RUN.format(model=tiny_model, url=locked))
    assert solon("run", config, "--dir", folder) == 0
    labels = (folder / "05-feedback/preferences.jsonl").read_text()
    assert '"labeller": "openai:tiny"' in labels  # the server was asked, with the key
    solon("audit", folder)
    assert solon("report", folder, "--json") == 0
    assert found(KEY, tmp_path, capsys) == []
    (tmp_path / "planted").write_text(f"key={KEY}")
    print(KEY)
    assert found(KEY, tmp_path, capsys) == [str(tmp_path / "planted"), "printed"]  # what is there is found


def test_a_refused_key_is_written_nowhere(
    locked: str,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", WRONG)
    config, folder = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(RUN.format(model=tiny_model, url=locked).replace("{assistant: ", "{policy: "))
    assert solon("run", config, "--dir", folder, "--set", "models.assistant=openai:tiny") == 2
    said = capsys.readouterr().err
    assert "does not accept the key (status 401): set the environment variable OPENAI_API_KEY" in said
    assert WRONG[:12] not in said
    assert (folder / "manifest.json").exists()
    assert found(WRONG, tmp_path, capsys) == []


@pytest.mark.parametrize(
    "url", [f"http://{KEY}@127.0.0.1:9/v1", f"https://me:{KEY}@host/v1", f"me:{KEY}@host"]
)
def test_a_key_in_an_address_is_refused_and_not_repeated(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("{}\n")
    said = fails(capsys, "run", path, "--set", f"engine.openai.base_url={url}")
    path.write_text(f'engine: {{openai: {{base_url: "{url}"}}}}\n')
    said += fails(capsys, "run", path)
    path.unlink()
    assert said.count("base_url has a user name or password in it") == said.count("OPENAI_API_KEY") == 2
    assert KEY not in said
    assert list(tmp_path.iterdir()) == []
