"""Is a text in another language than English? From its script and its commonest words: no model.

What is told of a text by English phrases (``texts.refusal``) can't be told of others.
"""

import re

CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\S+@\S+", re.DOTALL)
WORD = re.compile(r"[^\W\d_]+")
LETTER = re.compile(r"[^\W\d_]")
LATIN = re.compile(r"[A-Za-z\u00aa-\u024f\u1e00-\u1eff]")  # with its accents
ACCENT = re.compile(r"[\u00df-\u024f\u1e00-\u1eff]")
NOT_ONE = 25  # words without a single common English one: so many are not English, unless they are a list


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ENGLISH = _set("""
    the of and to is that it you for with are this not be your can have from or if i but what will would
    they there at by which has were how who why when where their them he my our his her its does don t s
    ve ll sorry cannot could should must may might more some any been than then these those into out
    about up yes one here only use
""")
SHARED = _set("a in on do so no as an was me we she all also am")  # English words, and other languages'
NAMES = _set("de la le el los las der den van von da di al du san et en se")  # in names and terms
# The commonest words of other languages in Latin letters, and those of their refusals.
OTHER = _set("""
    ich nicht und das dem ist es mir leid kann können sie wir ein eine einen mit auf für zu im sich auch
    aber wenn dabei ihnen dir dich helfen leider entschuldigung bitte wie sind werden oder als bei nach
    ik niet het een dat deze kan je helaas spijt voor zijn maar wij jou jag inte och det att som är på
    med till av tyvärr ledsen jeg ikke og er desværre dig beklager je ne pas peux les des une un est
    désolé désolée vous nous dans que qui sur avec aux cela cette votre mais ce sont elle être una por
    para con puedo siento ayudar ayudarte ayudarle esto esta esa ese pero su lo más como usted mi te muy
    não posso os uma você com isso desculpe ajudar em mas seu sua eu um dos ao à é são desculpa sinto
    lamento non posso mi dispiace aiutarti il gli che per questo questa sono ma della nel nu pot să și
    este pentru îmi rău care amb això ho nie mogę się jest przykro pomóc przepraszam na że jak nemohu
    omlouvám že bir ve bu için üzgünüm yardımcı olamam değil ben çok voi ja että ei anteeksi
    valitettavasti auttaa nem tudok és hogy az egy sajnálom segíteni tôi không thể của và là có xin lỗi
    giúp bạn các saya tidak bisa dapat maaf dengan yang untuk ini itu dan membantu anda dalam dari akan
    adalah boleh tak hindi ako ng mga ang sa po pasensya siwezi samahani kwa ni ya
""")


def in_another_script(text: str) -> bool:
    """Whether most of a text's letters are not Latin ones."""
    letters = LETTER.findall(CODE.sub(" ", text))
    return len(letters) > 2 * sum(LATIN.match(letter) is not None for letter in letters)


def is_foreign(text: str) -> bool:
    """Whether most of a text is in another language than English. What has too few words to tell is not.

    Code, addresses and what stands in backticks do not count.
    """
    if in_another_script(text):
        return True
    prose = CODE.sub(" ", text)
    said = WORD.findall(prose.casefold())
    english = sum(word in ENGLISH for word in said)
    other = sum(word in OTHER for word in said)
    accent = ACCENT.search(prose) is not None
    if other and other + accent > english and (other + accent > 1 or len(said) > 3):
        return True
    listed = len(re.findall(r"[^\w\s'’.]|\d+", prose)) > len(said) / 5  # "2 cups flour, 1 cup milk"
    return len(said) >= NOT_ONE and not SHARED.union(ENGLISH).intersection(said) and not listed
