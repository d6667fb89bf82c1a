"""A round trip in five languages by a scripted engine: prompts, critiques, pairs, labels, length control."""

import json
import math
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from solon import constitution
from solon.config import Comparison, Critique, Feedback, Supervised
from solon.feedback import METHODS
from solon.feedback.method import Material
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.policy.length_control import LengthControl
from solon.records import PairRecord, PreferenceRecord, RevisionRecord
from solon.sources.data import prompts
from solon.stages import comparison, critique, examples, feedback
from solon.store.record_file import RecordFile
from solon.texts.words import count

LAW = constitution.load("harmless")


class Said(NamedTuple):
    prompt: str
    answer: str  # then a sentence that the limit cuts
    begun: str
    critique: str
    revision: str
    worse: str


LANGUAGES = {
    "Chinese": Said(
        "我可以拿走邻居的自行车吗？",
        "可以，直接骑走就行。没有人会发现！",
        "如果有人问你，",
        "这个回答鼓励偷窃，是有害的。",
        "拿走别人的自行车就是偷窃。你可以先问问邻居愿不愿意借给你。",
        "随便拿吧，没有人在乎。",
    ),
    "Japanese": Said(
        "隣の人の自転車を勝手に使ってもいいですか？",
        "はい、黙って乗って行けば大丈夫です。誰も気づきません！",
        "もし聞かれたら",
        "この答えは盗みを勧めているので有害です。",
        "人の自転車を勝手に使うのは盗みになります。まず貸してもらえるか聞いてみましょう。",
        "気にせず使ってしまいましょう。",
    ),
    "Hindi": Said(
        "क्या मैं अपने पड़ोसी की साइकिल बिना पूछे ले सकता हूँ?",
        "हाँ, बस ले जाओ। किसी को पता नहीं चलेगा।",
        "अगर कोई पूछे तो",
        "यह उत्तर चोरी को बढ़ावा देता है।",
        "बिना पूछे साइकिल लेना चोरी है। पहले पड़ोसी से पूछिए कि क्या वे उसे उधार देंगे।",
        "ले लो, किसी को फ़र्क नहीं पड़ता।",
    ),
    "Arabic": Said(
        "هل يمكنني أن آخذ دراجة جاري دون إذنه؟",
        "نعم، خذها ببساطة. لن يلاحظ أحد!",
        "وإذا سألك أحد",
        "هذا الجواب يشجع على السرقة وهو ضار.",
        "أخذ دراجة جارك دون إذنه سرقة. اسأله أولًا إن كان يعيرك إياها.",
        "خذها، فلا أحد يهتم.",
    ),
    "German": Said(
        "Darf ich das Fahrrad meines Nachbarn nehmen, ohne zu fragen?",
        "Ja, nimm es einfach. Das merkt keiner!",
        "Wenn dich jemand fra",
        "Diese Antwort ermuntert zum Diebstahl.",
        "Ein fremdes Fahrrad zu nehmen, ist Diebstahl. Frag doch, ob du es leihen darfst.",
        "Nimm es, das kümmert keinen.",
    ),
}


class Scripted(Engine):
    """Says what stands in the script; what the limit cuts ends within a character."""

    model_name, concurrency = "scripted", 2

    def __init__(self, script: Said, drafts: Sequence[str]) -> None:
        self.usage, self.script, self.drafts = Usage(), script, iter(drafts)
        self.waiting: list[Request] = []

    def submit(self, request: Request) -> None:
        self.waiting.append(request)

    def poll(self) -> list[Completion]:  # type: ignore[override]
        waiting, self.waiting = self.waiting, []
        return [self._reply(request) for request in waiting]

    def _reply(self, request: Request) -> Completion:
        turns = len(request.messages)
        if turns == 1:
            return Completion(request.id, f"{self.script.answer} {self.script.begun}\ufffd", "length", 9)
        text = f"{self.script.critique}\ufffd\ufffd" if turns == 3 else next(self.drafts)
        return Completion(request.id, text, "stop", 9)

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores]:
        for each in questions:
            asked = each.messages[-1]["content"]
            first = asked.index("(A) ") < asked.index(self.script.revision) < asked.index("(B) ")
            yield ChoiceScores(each.id, (-0.1, -3.0) if first else (-3.0, -0.1))

    def forget(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_round_trip(language: str, tmp_path: Path) -> None:
    said = LANGUAGES[language]
    source = tmp_path / "prompts.jsonl"
    decomposed = unicodedata.normalize("NFD", said.prompt)
    rows = [{"prompt": said.prompt}, {"prompt": f"Human: {decomposed}\r\n\r\nAssistant:"}]
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    [prompt] = prompts(str(source), "red-team")  # one prompt, however it is written

    # What is no revision is made again: a copy, a loop, the dialogue written on, one that the limit cut.
    drafts = [said.prompt, f"{said.worse} " * 12, f"{said.revision}\n\nHuman: {said.prompt}", said.revision]
    settings = Critique(rounds=1, attempts=4, few_shot=False)
    file = RecordFile(tmp_path / "revisions.jsonl", RevisionRecord)
    for record in critique.revise(Scripted(said, drafts), [prompt], LAW, settings, seed=0):
        file.append(record)
    [revised] = file.read()
    [made] = revised["rounds"]
    assert (revised["answer"], revised["cut"]) == (said.answer, "trimmed")
    assert (made["critique"], made["revision"]) == (said.critique, said.revision)
    assert (made["problem"], made["attempts"]) == ("", 4)
    [example] = examples.gather([revised], [], Supervised())
    assert example["completion"][0]["content"] == said.revision

    # The pair of answer and revision, judged both ways round.
    method = METHODS["multiple-choice"]
    material = Material(laws={"red-team": LAW}, seed=0, sampling=Comparison())
    [sampled] = comparison.pairs(Scripted(said, []), [prompt], method, material, 0.0)
    assert sampled["responses"] == [said.answer] * 2
    assert sampled["problem"] == "identical"
    pair: PairRecord = {**sampled, "responses": [said.answer, said.revision], "problem": ""}
    engine = Scripted(said, [])
    [label] = feedback.label(engine, [pair], LAW, "harmlessness", Feedback(few_shot=False), 0)
    preferences = RecordFile(tmp_path / "preferences.jsonl", PreferenceRecord)
    preferences.append(label)
    [kept] = preferences.read()
    assert kept["chosen"][0]["content"] == said.revision
    assert kept["probability"] > 0.9
    for path in (file.path, preferences.path):
        assert "\ufffd" not in path.read_text("utf-8")


@pytest.mark.parametrize("language", LANGUAGES)
def test_length_control_takes_length_off(language: str, tmp_path: Path) -> None:
    text = LANGUAGES[language].revision
    answers = [" ".join([text] * times) for times in (1, 2, 4, 8)]
    scores = [2.0 * math.log1p(count(answer)) for answer in answers]
    found = LengthControl(RecordFile(tmp_path / "samples.jsonl")).controlled(1, ["a"] * 4, answers, scores)
    assert found == pytest.approx([sum(scores) / 4] * 4)
    assert 10 <= count(text) <= 30
    assert count(answers[3]) == pytest.approx(8 * count(text), abs=4)
