"""Conversations are written by the model's own template, which is code of somebody else's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dsdq.models.tokenizer import Tokenizer
from producers.openai.chat import render
from producers.openai.errors import ApiError
from producers.openai.requests import ChatMessage

HELLO = [ChatMessage(role="system", content="be brief"), ChatMessage(role="user", content="hello")]


@pytest.fixture
def templated() -> Callable[[str | None], Tokenizer]:
    def make(template: str | None) -> Tokenizer:
        tokenizer = Tokenizer.load("builtin/target")
        tokenizer.chat_template = template
        return tokenizer

    return make


def test_a_template_writes_the_conversation(templated: Callable[[str | None], Tokenizer]) -> None:
    tokenizer = templated(
        "{%- for one in messages %}{{ one.role }}: {{ one.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    assert tokenizer.decode(render(tokenizer, HELLO, "m")) == "system: be brief\nuser: hello\nassistant:"


def test_a_model_without_one_says_so(templated: Callable[[str | None], Tokenizer]) -> None:
    with pytest.raises(ApiError, match="has no chat template") as refused:
        render(templated(None), HELLO, "m")
    assert (refused.value.status, refused.value.code) == (400, "no_chat_template")


def test_what_a_template_refuses_is_the_clients_to_mend(templated: Callable[[str | None], Tokenizer]) -> None:
    with pytest.raises(ApiError, match="users only") as refused:
        render(templated("{{ raise_exception('users only') }}"), HELLO, "m")
    assert (refused.value.status, refused.value.param) == (400, "messages")


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
    ],
)
def test_a_template_reaches_nothing_of_python(templated: Callable[[str | None], Tokenizer], template: str) -> None:
    with pytest.raises(ApiError, match="does not take them"):
        render(templated(template), HELLO, "m")
