"""Other languages than English are told by script and common words."""

import gzip
import json
from pathlib import Path

import pytest

from solon.texts.language import is_foreign
from solon.texts.refusal import can_tell, classify, is_evasive, is_refusal

FOREIGN = {
    "German": "Es tut mir leid, aber ich kann Ihnen dabei nicht helfen.",
    "a short German": "Ich kann dabei nicht helfen.",
    "Dutch": "Het spijt me, ik kan je daar niet mee helpen.",
    "Swedish": "Jag kan tyvärr inte hjälpa dig med det.",
    "French": "Je suis désolé, je ne peux pas vous aider avec cette demande.",
    "French with terms": "Pour tuer un processus Python, utilisez la commande kill et son numéro.",
    "Spanish": "Lo siento, no puedo ayudarte con eso.",
    "a short Spanish": "La capital de Francia es París.",
    "Portuguese": "Desculpe, não posso ajudar com isso.",
    "a short Portuguese": "A capital do Brasil é Brasília.",
    "Italian": "Mi dispiace, non posso aiutarti.",
    "Indonesian": "Maaf, saya tidak bisa membantu dengan permintaan itu.",
    "a short Indonesian": "Ibu kota Indonesia adalah Jakarta.",
    "Polish": "Przykro mi, nie mogę w tym pomóc.",
    "Turkish": "Üzgünüm, bu konuda yardımcı olamam.",
    "Vietnamese": "Xin lỗi, tôi không thể giúp bạn.",
    "Swahili": "Samahani, siwezi kukusaidia na hilo.",
    "Finnish": "Anteeksi, en voi auttaa siinä.",
    "Chinese": "我不能帮助你。",
    "Japanese": "申し訳ありませんが、お手伝いできません。",
    "Korean": "죄송하지만 도와드릴 수 없습니다.",
    "Hindi": "मैं इसमें आपकी मदद नहीं कर सकता।",
    "Arabic": "لا أستطيع مساعدتك في ذلك.",
    "Hebrew": "אני לא יכול לעזור בזה.",
    "Russian": "Я не могу с этим помочь.",
    "Greek": "Συγγνώμη, δεν μπορώ να βοηθήσω.",
    "Thai": "ขออภัย ฉันช่วยเรื่องนี้ไม่ได้",
    "German with code": "So geht es in C:\n```c\nexit(0); /* the end of it */\n```\nDas ist alles.",
}
ENGLISH = [
    "",
    "Paris.",
    "No.",
    "42",
    "🙂",
    "Sure!",
    "I CAN’T HELP WITH THAT.",
    "Eggs, milk, flour.",
    "1. Eggs\n2. Milk\n3. Flour",
    "Ingredients:" + "\n- 1/2 cup vegan sugar" * 9,
    "```python\nfor i in range(10):\n    print(i)\n```",
    "def f(x):\n    return x * 2\n",
    "SELECT id, name FROM users WHERE age > 3;",
    "$$\\int_0^1 x^2 dx = 1/3$$",
    "kill -9 PID",
    "Pour milk, stir, serve.",
    "Los Angeles, San Diego, El Paso, Las Vegas",
    "Charles de Gaulle and Simone de Beauvoir",
    "Beyoncé and Jay-Z",
    "Café au lait",
    "El Niño",
    "The German for sorry is 'Entschuldigung' or 'Es tut mir leid'.",
    "In Japanese, 'thank you' is ありがとう.",
    "Hola! How can I help you today?",
]


@pytest.mark.parametrize("language", FOREIGN)
def test_of_other_languages_we_cannot_tell(language: str) -> None:
    answer = FOREIGN[language]
    assert is_foreign(answer) and not can_tell(answer)
    assert classify(answer) is None
    assert not is_refusal(answer) and not is_evasive(answer)


@pytest.mark.parametrize("answer", ENGLISH)
def test_english_code_and_single_words_are_not_foreign(answer: str) -> None:
    assert not is_foreign(answer)


def test_real_english_answers_are_not_foreign(shared_data: Path) -> None:
    """Of 1,998 answers six are foreign: they are about dentistry, in French, as they were asked to be."""
    rows = json.loads(gzip.decompress((shared_data / "pandalm/testset-v1.json.gz").read_bytes()))
    texts = [str(row[name]) for row in rows for name in ("response1", "response2")]
    found = [text for text in texts if is_foreign(text)]
    assert len(texts) == 1998 and len(found) == 6
    assert all("médecine" in text for text in found)
