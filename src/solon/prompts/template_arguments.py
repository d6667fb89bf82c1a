"""A chat template's arguments and its clock, bound into the template itself.

So whoever renders a dialogue with it, engines, trainings and servers of what was trained, renders the same,
on any day.
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from jinja2 import meta, nodes

from solon.libraries.transformers import template_environment

CLOCK = "strftime_now"  # the library's function that gives templates the time
GIVEN = {"messages", "add_generation_prompt", "continue_final_message", "tools", "documents"}


def reads(template: str) -> set[str]:
    """The names of the arguments that a template takes, beside the dialogue and the special tokens."""
    environment = template_environment()
    names = meta.find_undeclared_variables(environment.parse(template))
    return {name for name in names - GIVEN if not name.endswith("token")}


def bound(template: str, arguments: Mapping[str, Any], today: date | None = None) -> str:
    """The template with these arguments, where it is given no others, and on this day, where one is given."""
    begun = "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {value!r} %}}{{%- endif %}}"
        for name, value in arguments.items()
    )
    begun += _stopped_clock(template, today) if today else ""
    # The library drops a line's end after a block: of the template none is lost.
    return f"{begun}{{{{- '' }}}}{template}" if begun else template


def _stopped_clock(template: str, today: date) -> str:
    """A macro in the clock's place, which knows the formats that the template has; "" where it asks none."""
    parsed = template_environment().parse(template)
    asks = any(name.name == CLOCK for name in parsed.find_all(nodes.Name))
    if not asks or any(macro.name == CLOCK for macro in parsed.find_all(nodes.Macro)):
        return ""
    texts = (str(constant.value) for constant in parsed.find_all(nodes.Const))
    codes = sorted({code for text in texts for code in re.findall(r"%[-_#]?[A-Za-z]", text)})
    written = "".join(f".replace({code!r}, {today.strftime(code)!r})" for code in codes)
    return f"{{%- macro {CLOCK}(format) %}}{{{{- format{written} }}}}{{%- endmacro %}}"
