"""Names of safety and harm: in sources, columns, values and data sets' cards, in several languages."""

import re
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What a label of harm is called. A file of such a name holds such labels.
LABELS = _words(
    """
    harmless harmlessness harmlos harmlosigkeit unschaedlich unschadlich inoffensif inoffensive
    innocuite inofensivo inofensividad innocuo innocuita inofensivo onschadelijk
    """
)
# What is about harm, and may be a label of it.
HARM = LABELS | _words(
    """
    harm harms harmful harmfulness safe safer safest safety unsafe toxic toxicity nontoxic redteam
    redteaming jailbreak jailbreaks offensive offensiveness danger dangerous dangerousness nsfw
    hateful profanity severity moderation flagged unharmful schaden schaedlich schadlich
    schaedlichkeit schadlichkeit sicher sicherer sicherheit unsicher gefaehrlich gefahrlich gefahr
    giftig toxisch toxizitat nuisible nocif nocivite dangereux danger securite surete toxique
    toxicite danino dano danoso nocivo seguro segura seguridad inseguro peligroso peligro toxico
    toxicidad dannoso danno nocivita sicuro sicura sicurezza insicuro pericoloso tossico tossicita
    prejudicial seguranca perigoso toxicidade schadelijk veilig veiliger veiligheid onveilig
    gevaarlijk
    """
)
# In scripts that put no space between words, or bend them.
PARTS = _words("无害 有害 安全 毒性 危险 無害 危険 毒 무해 유해 안전 위험 вред безвред безопас опасн токсич")
# Beside such a word they add nothing: "harmless-base", "is safe", "safety label".
PLAIN = _words(
    """
    a and anthropic base better category data dataset eval hh human is kind label labels model more
    no non not online pair pairs preference preferences prompt prompts rejection rlhf sampled score
    scores set team red test the train type un validation violation yes id of response responses
    rating
    """
)
# Kinds of harm, as values of a column.
KINDS = _words(
    """
    violence violent hate hatespeech harassment selfharm suicide weapons terrorism drugs
    discrimination privacyviolation childabuse animalabuse sexual sexuallyexplicit cybercrime
    misinformation crime illegal bullying insult insults threat threats abuse abusive
    """
)
# Public sets of human labels of harm, by a part of their names without what parts words.
SETS = _words(
    """
    saferlhf beavertails hhrlhf toxicchat wildguard wildjailbreak advbench harmbench donotanswer
    realtoxicity cvalues safetyprompts diasafety jailbreakbench xsafety safeedit safetybench
    """
)

CARDS = "dataset_info|task_categories|size_categories|configs|annotations_creators"  # settings in them


@cache
def tokens(name: str) -> tuple[str, ...]:
    """The words of a name, "is_response_0_safe" or "PKU-SafeRLHF", in lower case and without accents."""
    plain = "".join(
        letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter)
    )
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", plain)
    return tuple(re.findall(r"[^\W\d_]+", parted.lower()))


def is_of_labels(name: str) -> bool:
    """Whether what bears the name holds labels of harmlessness."""
    return bool(LABELS & set(tokens(name))) or "harmless" in name.lower()


def is_of_harm(name: str) -> bool:
    """Whether a name has a word of harm or safety."""
    found = tokens(name)
    return bool(HARM & set(found)) or ("red", "team") in _pairs(found) or any(part in name for part in PARTS)


def known_set(name: str) -> bool:
    """Whether it names a public set of human labels of harm, as hh-rlhf is but for its helpful part."""
    joined = "".join(tokens(name))
    return any(each in joined for each in SETS) and not ("hhrlhf" in joined and "helpful" in joined)


def says_harm(value: Any) -> bool:
    """Whether a value says that its row is about harm, and says no more: "unsafe", "harmless-base"."""
    if not isinstance(value, str) or len(value) > 40:
        return False
    found = tokens(value)
    if "".join(found) in KINDS or any(part in value for part in PARTS):
        return True
    return is_of_harm(value) and set(found) <= HARM | PLAIN


def card_of(source: Path) -> str:
    """The card beside a file, or in a folder, of data: a README.md that begins with a data set's settings."""
    for folder in (source, source.parent):
        try:
            text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")[:8000]
        except OSError:
            continue
        if re.match(
            r"---\n.*?\b(dataset_info|task_categories|size_categories|configs|annotations_creators):",
            text,
            re.S,
        ):
            return text
    return ""


def _pairs(found: tuple[str, ...]) -> set[tuple[str, str]]:
    return set(pairwise(found))
