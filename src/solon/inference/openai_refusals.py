"""What a server's refusal means, in whichever words and places servers put it."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from typing import Any, Literal

Json = dict[str, Any]
# later: asking again may help. refused: it will not. spent: the money or the quota is. The rest as named.
Kind = Literal["filtered", "too long", "no room", "spent", "later", "key", "address", "refused"]

FILTER_CODES = {
    "content_filter",
    "content_policy_violation",
    "responsibleaipolicyviolation",
    "moderation_blocked",
    "content_moderation",
    "data_inspection_failed",
    "datainspectionfailed",
    "contentfilter",
    "prohibited_content",
    "invalid_prompt",
}
FILTER = re.compile(
    # Azure, OpenAI, OpenRouter, Anthropic, Google, DeepSeek, Qwen, Zhipu and others
    r"content[ _-]?(?:filter|polic|moderation|management|exists risk|violat|blocked)"
    r"|usage (?:polic|guideline)|(?:flagged|rejected|blocked|violat\w+)\b.{0,80}\b(?:moderation|polic\w+"
    r"|safety|guidelines?|unsafe|harmful|sensitive|inappropriate|high risk)"
    r"|(?:requires?|failed|by|input|output) moderation|flagged_input|input was flagged"
    r"|ResponsibleAI|prohibited[ _]content|safety (?:system|filter|setting|check|polic)"
    r"|inappropriate content|sensitive (?:content|word)|敏感|违规|不安全",
    re.IGNORECASE | re.DOTALL,
)
ACCOUNT = re.compile(
    r"\b(?:account|organi[sz]ation|api[ _-]?key|your region|country|territory)\b", re.IGNORECASE
)
TOO_LONG_CODES = {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}
TOO_LONG = re.compile(
    r"(?:maximum|max|available) (?:context|model|sequence)[ _](?:length|size|len)"
    r"|context[ _](?:length|window|size)"
    r"|longer than the model's|(?:prompt|input|request) (?:is )?too (?:long|large)|too many (?:input )?tokens"
    r"|(?:input|prompt) token count .{0,40}exceeds|reduce the length of|`inputs` tokens \+",
    re.IGNORECASE,
)
NO_ROOM = re.compile(r"max_\w*tokens.{0,60}(?:was|were) reached|higher max_\w*tokens", re.IGNORECASE)
SPENT_CODES = {
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "insufficient_balance",
}
SPENT = re.compile(
    r"insufficient[ _](?:quota|balance|credit|fund)|credit balance is too low|exceeded your current quota"
    r"|(?:out of|not enough|no|add) (?:more )?credits|billing (?:hard )?limit|payment required|arrears"
    r"|余额不足",
    re.IGNORECASE,
)
BUSY = re.compile(
    r"rate[ _-]?limit|too many requests|overload|over capacity|temporarily|try again (?:later|in)|unavailable"
    r"|resource[ _]exhausted|timed? ?out|throttl|provider returned error|internal (?:server )?error",
    re.IGNORECASE,
)
RATE = re.compile(r"rate[ _-]?limit|too many requests|overloaded", re.IGNORECASE)
# Cloudflare's and others' own numbers are above 500, too. 501 and 505 are of what is never done.
LATER = {408, 409, 424, 425, 429, 498}
NEVER = {501, 505}
WAIT = re.compile(
    r"(?:again|retry\w*)(?: (?:in|after))?[: \"']{1,4}"
    r"((?:[\d.]+ ?(?:ms|h|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)[ ]*)+)"
    r"|retryDelay\W+([\d.]+s)",
    re.IGNORECASE,
)
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
MOST_SAID = 400  # characters of a server's own words that are shown


@dataclass(frozen=True)
class Refusal:
    """``status`` is HTTP's, or the number that a body of status 200 has in its place; 0 where neither."""

    status: int
    said: str  # the server's own words
    codes: frozenset[str] = frozenset()  # its names for what is wrong, in lower case
    param: str = ""  # the setting that it names as the reason
    wait: float | None = None  # seconds that it asks to wait

    @property
    def kind(self) -> Kind:
        # A request above what a minute allows in all is refused like one of too many.
        too_large = self.status == 413 or (self.status == 429 and "too large" in self.said)
        later = self.status in LATER or (self.status >= 500 and self.status not in NEVER)
        told = self.status == 0 and (not self.said or bool(BUSY.search(self.said)))
        told |= self.status in {400, 403} and bool(RATE.search(self.said))
        kinds: dict[Kind, bool] = {
            "filtered": self._filtered or self.status == 451,  # for legal reasons
            "too long": too_large or (self.status in {0, 400, 422} and self._is(TOO_LONG_CODES, TOO_LONG)),
            "no room": self.status == 400 and bool(NO_ROOM.search(self.said)),
            "spent": self.status == 402 or self._spent,
            "later": later or told,
            "key": self.status in {401, 403},
            "address": self.status == 404,
        }
        return next((kind for kind, is_it in kinds.items() if is_it), "refused")

    def names(self, setting: str) -> bool:
        """Whether it is a setting of the request that the server refuses, and this one."""
        if self.status not in {400, 403, 404, 422, 501}:
            return False
        if re.split(r"[.\[]", self.param)[-1] == setting:
            return True
        word = rf"(?<![\w]){re.escape(setting)}(?![\w])"
        if re.search(rf"['\"`]{setting}['\"`]", self.said) or ("_" in setting and re.search(word, self.said)):
            return True
        about = (
            r"support|recogni|unexpected|permit|allow|invalid|unknown|extra|must|only|between|greater|less"
        )
        return bool(
            re.search(rf"(?:{about}).{{0,60}}{word}|{word}.{{0,60}}(?:{about})", self.said, re.IGNORECASE)
        )

    @property
    def _filtered(self) -> bool:
        if self.status in LATER | {401, 404} or self.status >= 500:
            return bool(self.codes & FILTER_CODES)
        return self._is(FILTER_CODES, FILTER) and not (self.status == 403 and ACCOUNT.search(self.said))

    @property
    def _spent(self) -> bool:
        """A limit that is over soon comes with a time; the others last until someone pays."""
        if self.codes & SPENT_CODES:
            return True
        return self.status in {0, 400, 403, 429} and self.wait is None and bool(SPENT.search(self.said))

    def _is(self, codes: set[str], words: re.Pattern[str]) -> bool:
        return bool(self.codes & codes) or bool(words.search(self.said))


def of_answer(status: int, body: Any, headers: Mapping[str, str]) -> Refusal:
    """A refusal with this body, which is what its JSON says or else its text."""
    return Refusal(status, words(body), frozenset(_codes(body)), _param(body), _wait(body, headers))


def within(body: Json) -> Refusal | None:
    """An error that a server tells with status 200, in the body or in the place of an answer."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    error = body.get("error") or (first.get("error") if isinstance(first, dict) else None)
    if (
        not error
        and not choices
        and any(body.get(name) for name in ("detail", "message", "msg", "error_msg"))
    ):
        error = body
    if not error:
        return None
    code = error.get("code") or error.get("status") if isinstance(error, dict) else None
    status = int(str(code)) if re.fullmatch(r"[45]\d\d", str(code)) else 0
    return of_answer(status, error, {})


def words(body: Any) -> str:
    """What a body says to a reader: the message of an error in any of its usual places, or a page's text."""
    if isinstance(body, str):
        page = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", body, flags=re.DOTALL | re.IGNORECASE)
        return " ".join(page.split())[:MOST_SAID]
    if isinstance(body, list):  # FastAPI's: what is wrong with each field
        return "; ".join(filter(None, map(words, body)))[:MOST_SAID]
    if not isinstance(body, dict):
        return "" if body is None else str(body)[:MOST_SAID]
    if "msg" in body and "loc" in body:
        return f"{'.'.join(map(str, body['loc']))}: {body['msg']}"
    for name in ("error", "message", "detail", "errors", "error_msg", "msg", "reason", "title"):
        if body.get(name) and (said := words(body[name])):
            raw = body.get("metadata")  # what stands behind a go-between's "Provider returned error"
            more = words(raw.get("raw")) if isinstance(raw, dict) else ""
            return f"{said} ({more})"[:MOST_SAID] if more else said
    return str(body)[:MOST_SAID] if body else ""


def _codes(body: Any) -> list[str]:
    """All that stands under "code", "type" or "status" anywhere in it."""
    if isinstance(body, list):
        return [code for each in body for code in _codes(each)]
    if not isinstance(body, dict):
        return []
    own = [str(body[name]).lower() for name in ("code", "type", "status") if isinstance(body.get(name), str)]
    return own + [code for each in body.values() for code in _codes(each)]


def _param(body: Any) -> str:
    if not isinstance(body, dict):
        return ""
    inner = body.get("error")
    return str(body.get("param") or "") or (_param(inner) if isinstance(inner, dict) else "")


def _wait(body: Any, headers: Mapping[str, str]) -> float | None:
    """By the headers, where Retry-After is a number of seconds or a date, or by the words."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        if re.fullmatch(r"\s*\d+(\.\d*)?\s*", value):
            return float(value) * unit
        if (date := parsedate_tz(value)) is not None:
            return max(0.0, mktime_tz(date) - time.time())
    found = WAIT.search(str(body))
    if not found:
        return None
    parts = re.findall(r"([\d.]+) ?(ms|[hms])", found[1] or found[2], re.IGNORECASE)
    return sum(float(number.strip(".") or 0) * UNITS[unit.lower()] for number, unit in parts)
