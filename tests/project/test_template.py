"""`{name}`, `{{` and `}}`: the part of `str.format`'s language that a command has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import OrchError
from orchestrator.project.template import MARK, escape, parse_template


@given(st.lists(st.one_of(st.sampled_from(["{a}", "{b-c}", "{{", "}}", "$"]), st.text("ab{}$ \n'", max_size=3))))
def test_what_is_read_means_what_str_format_says(parts: list[str]) -> None:
    command = "".join(parts)
    values = {"a": "<1>", "b-c": "<2>"}
    try:
        template = parse_template(command, values)
    except OrchError as error:
        assert "column" in str(error)
        return
    filled = template.text
    for name in template.names:
        filled = filled.replace(MARK, values[name], 1)
    assert filled == command.format(**values)


@given(st.text(st.characters(exclude_characters="\0")))
def test_escaped_text_stands_for_itself(text: str) -> None:
    template = parse_template(escape(text), ())
    assert (template.text, template.names) == (text, ())


def test_every_character_knows_its_place() -> None:
    template = parse_template("a{{\n{x}b", {"x"})
    assert template.text == f"a{{\n{MARK}b"
    assert [template.where(offset) for offset in (1, 3, 4)] == [
        "line 1, column 2",
        "line 2, column 1",
        "line 2, column 4",
    ]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("echo {alhpa}", "uses a parameter 'alhpa' at column 6, which is not declared: did it mean {alpha}?"),
        ("echo {zzz}", "uses a parameter 'zzz' at column 6, which is not declared: it has alpha"),
        ("echo ${HOME}", "a shell variable is written ${{HOME}}"),
        ("echo {}", "has {} at column 6; write the parameter's name in it"),
        ("echo {0}", "has {0} at column 6; write the parameter's name in it"),
        ("echo {alpha.real}", "has {alpha.real} at column 6; only {name} is understood"),
        ("echo {alpha[0]}", "has {alpha[0]} at column 6"),
        ("echo {alpha!r}", "has {alpha!r} at column 6"),
        ("echo {alpha:>3}", "has {alpha:>3} at column 6"),
        ("echo {alpha:{alpha}}", "has {alpha:{alpha} at column 6"),
        ("echo {alpha", "has a single { at column 6"),
        ("a\necho }", "has a single } at line 2, column 6"),
        ("echo {alpha\n}", "has a single { at line 1, column 6"),
    ],
)
def test_anything_else_is_refused_with_its_place(command: str, problem: str) -> None:
    with pytest.raises(OrchError) as caught:
        parse_template(command, ("alpha",), what="the command of entry point 'main'")
    assert str(caught.value).startswith("the command of entry point 'main' ")
    assert problem in str(caught.value)
