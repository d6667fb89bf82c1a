"""Chat templates in the manners of well-known models' ones, as far as turns go."""

ALTERNATE = """{%- for m in turns %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must alternate user/assistant/user/assistant') }}{% endif %}{% endfor %}"""

TURNS = (
    "{% for m in turns %}{{ '<' + m['role'] + '>' + m['content'] | trim + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)

TEMPLATES = {
    # Any turn, anywhere.
    "chatml": "{% set turns = messages %}" + TURNS,
    # No system turn; turns alternate.
    "gemma": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% set turns = messages %}" + ALTERNATE + TURNS,
    # A system turn first, which it puts in the first user turn; turns alternate.
    "gemma3": "{% if messages[0]['role'] == 'system' %}{% set start = messages[0]['content'] + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set start = '' %}{% set turns = messages %}{% endif %}"
    + ALTERNATE
    + "{% for m in turns %}{{ '<' + m['role'] + '>' + (start if loop.first else '') }}"
    "{{ m['content'] + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}",
    # A system turn first, else its own; turns alternate.
    "cohere": "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}"
    "{% set system = messages[0]['content'] %}{% else %}{% set turns = messages %}"
    "{% set system = 'You are Command.' %}{% endif %}{{ '<system>' + system + eos_token }}"
    + ALTERNATE
    + TURNS,
    # A system turn first alone.
    "qwen3.5": "{% for m in messages %}{% if m['role'] == 'system' and not loop.first %}"
    "{{ raise_exception('System message must be at the beginning.') }}{% endif %}{% endfor %}"
    "{% set turns = messages %}" + TURNS,
    # A system turn first alone; later ones are left out without a word.
    "gpt-oss": "{% if messages[0]['role'] == 'system' %}"
    "{{ '<developer>' + messages[0]['content'] + eos_token }}{% endif %}"
    "{% set turns = messages | rejectattr('role', 'equalto', 'system') | list %}" + TURNS,
    # No system turn, and not a word of it.
    "silent": "{% set turns = messages | rejectattr('role', 'equalto', 'system') | list %}" + TURNS,
    # What the system says goes into the last user turn; turns alternate.
    "mistral": "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    + ALTERNATE
    + "{% for m in turns %}{% if m['role'] == 'user' %}{% set last = loop.revindex0 <= 1 and (loop.last or "
    "not add_generation_prompt) %}{{ '[INST] ' + (system if last else '') + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}",
    # Only the last turn.
    "one turn": "{{ '<user>' + messages[-1]['content'] + eos_token }}",
}
