"""Whether people's labels are of harm: looked at anew, and who vouches for what can't be known."""

from pathlib import Path

from solon.audit.run import Found, Run
from solon.feedback import MODELS_OWN
from solon.sources import data, harm_labels

SETTING = "preference_model.vouched_for"


def not_of_harm(run: Run) -> Found:
    """By the file where it is here, else by the run's own records of it."""
    human = [record for record in run.folder.preferences if record["label_source"] not in MODELS_OWN]
    if not human:
        return Found("0 human labels")
    source = str(run.settings.get("preference_model.helpfulness") or "")
    signed, recorded = run.settings.get(SETTING), run.folder.manifest.get("human_labels") or {}
    if Path(source).is_file():
        _, finding = data.looked_at(source, 0)
    else:
        finding = harm_labels.of_records(human, "05-feedback/preferences.jsonl")
    wrong = [finding.refused] if finding.refused else []
    if finding.doubt and not signed:
        wrong.append(f"nobody vouches for them in {SETTING}, and {finding.doubt}")
    if recorded and recorded.get("vouched_for") != signed:
        wrong.append(f"{SETTING} was {recorded.get('vouched_for')!r} and is {signed!r}")
    unknown = [f"whether they are of harm: {finding.doubt}"] if finding.doubt and signed else []
    by = f"; the user vouches for them: {signed!r}" if signed else ""
    return Found(f"{len(human)} human labels, {finding.says}{by}", wrong, unknown)
