"""Conversations as the model wants them written: its own chat template, in a sandbox.

Templates are written for transformers; what they may use there, they find here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dsdq.models.tokenizer import Tokenizer
from producers.openai.errors import invalid
from producers.openai.requests import ChatMessage


def render(tokenizer: Tokenizer, messages: Sequence[ChatMessage], model: str) -> list[int]:
    """Return the token ids of a conversation, up to where the assistant's next message begins.

    Raises:
        ApiError: the model has no template, or its template does not take these messages.
    """
    if tokenizer.chat_template is None:
        raise invalid(
            f"The model {model!r} has no chat template: it continues texts and does not chat; use /v1/completions",
            "messages",
            "no_chat_template",
        )
    try:
        template = _compiled(tokenizer.chat_template)
        text = template.render(
            messages=[message.plain for message in messages], add_generation_prompt=True, **tokenizer.named
        )
    except (TemplateError, SecurityError, TypeError) as error:
        raise invalid(f"messages: the model's chat template does not take them: {error}", "messages") from None
    return tokenizer.encode(text, special_tokens=False)


@lru_cache(maxsize=16)
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(  # autoescape is for HTML; this is a prompt
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return environment.from_string(template)


def _to_json(value: object, **options: Any) -> str:  # noqa: ANN401
    return json.dumps(value, ensure_ascii=False, **options)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
