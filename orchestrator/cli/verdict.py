"""What a verdict says, in lines for people: as wide as the terminal, 80 columns in a pipe."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.cli.text import coloured, visible
from orchestrator.execute.host import FLAGS
from orchestrator.model import RunRecord
from orchestrator.report import plural

_OUTPUTS_SHOWN, _METRICS_SHOWN = 6, 10
"""So few are told one by one that the whole mostly is one screen; all are in the JSON."""

_FLAGS_SHOWN = 8

_WORST_FIRST = ("missing", "new", "different", "within tolerance", "equivalent", "ignored", "identical", "equal")

_SAID = {"equal": "identical", "within tolerance": "equivalent"}
"""What people read where a verdict has two words: one for outputs, one for metrics."""

_DIM, _RED, _YELLOW = "2", "31", "33"
_ALARMING = {"different": _RED, "missing": _RED, "new": _YELLOW}

_LABEL = 14
"""Characters of a line before its text."""

_LONGEST = 10_000
"""Characters of any text that are looked at."""

_NUMERIC = ("avx", "sse", "fma", "f16c", "amx", "asimd", "sve", "sme", "neon")
"""How the flags begin that numeric libraries choose their code by."""


def verdict_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What a verdict says, in lines for people. Of what differs the worst comes first."""
    found = _harmless(found)
    before, now = found["exit_code"]
    if before != now:
        yield _labelled("exit code", f"{now}, recorded {before}")
    elif now:
        yield _labelled("exit code", f"{now}, as recorded: it failed again")
    params = found.get("params", ())  # verdicts of before have none
    nested = found.get("nested", {})  # nor these
    if not found["outputs"] and not found["metrics"] and not params and not nested.get("compared"):
        yield "  there are no outputs and no metrics: only the exit code was compared"
    yield from _output_lines(found["outputs"])
    yield from _metric_lines(found["metrics"])
    yield from _param_lines(params)
    yield from _nested_lines(nested)
    if cut := _rules_not_shown(found["outputs"]):
        yield from _block("rules", [f"{', '.join(cut)} for the others"])
    yield from _block("environment", [found["environment"]])
    if found["result"] == "differs":
        for name, recorded, replayed in found["host"]:
            yield from _host_lines(name, recorded, replayed)
    for pattern in found.get("unmatched", ()):
        what = "metric" if f"{pattern}:".startswith("metrics:") else "output"
        yield from _block("note", [f"-t {visible(pattern, 200)}: there is no {what} like that"])


def _nested_lines(nested: Mapping[str, Any]) -> Iterator[str]:
    if nested.get("compared"):
        yield f"  {plural(nested['compared'], 'run')} started inside it compared too"
    for kind in ("missing", "new", "changed"):
        labels = [visible(label, 200) for label in nested.get(kind, ())]
        yield from (_labelled(kind, f"run {label}") for label in labels[:_OUTPUTS_SHOWN])
        if len(labels) > _OUTPUTS_SHOWN:
            yield f"  and {len(labels) - _OUTPUTS_SHOWN} more runs"
    if nested.get("note"):
        yield from _block("note", [nested["note"]])


def terminal_lines(run_id: str) -> Iterator[str]:
    """Why what came of a run at a terminal may not come again."""
    yield from _block(
        "note",
        [
            f"run {run_id[:16]} had a terminal, its replay has none: what is typed is not recorded",
            "input from a file is: orch run --stdin FILE",
        ],
    )


def why(done: Sequence[RunRecord]) -> str:
    """Whether what differs is other each time, or always the same and not what was recorded."""
    from orchestrator.replay import varying

    if wavering := sorted(varying(done)):
        names = ", ".join(visible(name) for name in wavering[:3]) + (", ..." if len(wavering) > 3 else "")
        return _broken(
            f"{names}: not the same in {len(done)} replays, so the program itself is not deterministic. Usual causes: "
            "a random seed that is not set, threads that add up in another order, the time, the order of a set or of "
            "files."
        )
    return _broken(
        f"the {len(done)} replays agree with each other and not with the record: a real difference. Usual causes: "
        "other hardware or number of threads, a system library, or data from outside that has changed."
    )


def flag_changes(without: Sequence[str], more: Sequence[str]) -> list[str]:
    """Which flags a processor is without, and which it has more, in words; those for numbers come first."""
    told = ((word, sorted(flags, key=_numeric_first)) for word, flags in (("without", without), ("with", more)))
    return [f"{word} {_some(flags)}" for word, flags in told if flags]


# --- outputs ----------------------------------------------------------------------------------------------------


def _output_lines(outputs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if outputs:
        yield _count("output", outputs)
    shown, others = _worst_first(outputs, _OUTPUTS_SHOWN)
    for item in shown:
        path = _middle(item["path"], _columns() - _LABEL)
        yield _labelled(item["result"], path)
        yield from _filled(list(_known_of(item)))
    if others:
        yield f"  and {plural(len(others), 'more output')}; --json has them all"


def _rules_not_shown(outputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rules that only outputs were compared by that are not told one by one."""
    shown, others = (
        {rule for item in part for rule in item["rules"]} for part in _worst_first(outputs, _OUTPUTS_SHOWN)
    )
    return sorted({visible(rule, 200) for rule in others - shown})


def _known_of(item: Mapping[str, Any]) -> Iterator[str]:
    """What there is to know of an output that is not identical, in pieces."""
    held = item["result"] in ("equivalent", "ignored")
    if item["rules"] and held:
        yield _rules_of(item)
    if item["place"] is not None:
        yield from _first_place(item)
    if item["largest_absolute"] is not None:
        relative = item["largest_relative"]
        ratio = f", relative {_number(relative, 3)}" if relative is not None else ""
        yield f"largest error {_number(item['largest_absolute'], 3)}{ratio}"
    if item["note"] is not None:
        yield visible(item["note"], 200)
    if item["rules"] and not held:
        yield f"compared {_rules_of(item)}"


def _rules_of(item: Mapping[str, Any]) -> str:
    return f"by {', '.join(visible(rule, 200) for rule in item['rules'])}"


def _first_place(item: Mapping[str, Any]) -> list[str]:
    place = f"first at {visible(item['place'], 80)}"
    values = item["replayed"], item["recorded"]
    if values == (None, None):
        return [place]
    replayed, recorded = ("nothing" if value is None else visible(str(value), 80) for value in values)
    return _pair(f"{place}: {replayed}", f"recorded {recorded}")


# --- metrics ----------------------------------------------------------------------------------------------------


def _metric_lines(metrics: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if metrics:
        yield _count("metric", metrics)
    shown, others = _worst_first(metrics, _METRICS_SHOWN)
    headers = ["RESULT", "METRIC", "RECORDED", "REPLAYED", "DIFFERENCE"]
    if shown:
        first, *rows = _table(headers, [_metric_row(item) for item in shown])
        yield first
        for item, row in zip(shown, rows, strict=True):
            yield row
            yield from _filled([_rules_of(item)] if item.get("rules") else [])
    if others:
        yield f"  and {plural(len(others), 'more metric')}; --json has them all"


def _metric_row(item: Mapping[str, Any]) -> list[str]:
    one, other = item["recorded"], item["replayed"]
    difference = ""
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        difference = f"{other - one:+.3g}"
    if item["step"]:
        difference = f"{difference} at step {item['step']}".lstrip()
    return [_said(item["result"]), item["name"], *_apart(one, other), difference]


def _apart(one: Any, other: Any) -> tuple[str, str]:
    """Two numbers with so many digits that they can be told apart, at least six."""
    for digits in range(6, 18):
        texts = _number(one, digits), _number(other, digits)
        if texts[0] != texts[1]:
            break
    return texts


def _number(value: Any, digits: int) -> str:
    if isinstance(value, (int, float)):
        return f"{value:.{digits}g}"
    return "none" if value is None else str(value)


def _table(headers: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Columns under their headers; the names, in the second one, are cut so that it fits."""
    widths = [max(len(row[i]) for row in [headers, *rows]) for i in range(len(headers))]
    room = _columns() - 2 * len(widths) - sum(widths) + widths[1]
    widths[1] = min(widths[1], max(8, room))
    for row in [headers, *rows]:
        cells = [row[0], _middle(row[1], widths[1]), *row[2:]]
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        yield f"  {coloured(line, _DIM, sys.stdout)}" if row is headers else f"  {_marked(row[0])}{line[len(row[0]) :]}"


# --- logged parameters and host ---------------------------------------------------------------------------------


def _param_lines(params: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if params:
        yield _count("logged parameter", params)
    shown, others = _worst_first(params, _OUTPUTS_SHOWN)
    for item in shown:
        yield from _fact_lines(item["result"], item["name"], item["recorded"], item["replayed"])
        yield from _filled([_rules_of(item)] if item["rules"] else [])
    if others:
        yield f"  and {plural(len(others), 'more logged parameter')}; --json has them all"


def _host_lines(name: str, recorded: Any, replayed: Any) -> Iterator[str]:
    if name == FLAGS and isinstance(recorded, list) and isinstance(replayed, list):
        changes = flag_changes(recorded, replayed) or ["no flag differs"]
        yield from _block("host", [f"{name}: {changes[0]}", *changes[1:]])
    else:
        yield from _fact_lines("host", name, recorded, replayed)


def _fact_lines(label: str, name: str, recorded: Any, replayed: Any) -> Iterator[str]:
    yield from _block(label, _pair(f"{visible(name)}: {_fact(replayed)}", f"recorded {_fact(recorded)}"))


def _fact(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        counts = Counter(map(str, value))
        value = "; ".join(f"{count} x {name}" if count > 1 else name for name, count in counts.items())
    return visible(str(value) or '""', 200)


def _some(flags: Sequence[str]) -> str:
    left_out = len(flags) - _FLAGS_SHOWN
    shown = flags if left_out <= 1 else flags[:_FLAGS_SHOWN]
    return ", ".join(visible(flag) for flag in shown) + (f" and {left_out} more" if left_out > 1 else "")


def _numeric_first(flag: str) -> tuple[bool, str]:
    return not flag.startswith(_NUMERIC), flag


# --- lines ------------------------------------------------------------------------------------------------------


def _count(what: str, items: Sequence[Mapping[str, Any]]) -> str:
    """How many came to which result: `2 outputs identical`, or `5 outputs: 3 identical, 2 different`."""
    counts = Counter(item["result"] for item in items)
    if len(counts) == 1:
        return f"  {plural(len(items), what)} {_said(next(iter(counts)))}"
    told = [f"{counts[result]} {_marked(_said(result))}" for result in sorted(counts, key=_badness, reverse=True)]
    return f"  {plural(len(items), what)}: {', '.join(told)}"


def _worst_first(items: Sequence[Mapping[str, Any]], most: int) -> tuple[list[Mapping[str, Any]], ...]:
    """Those that did not come out the very same: the ones to be told, at least one of each result, and the others."""
    worst = sorted(
        (item for item in items if item["result"] not in ("identical", "equal")),
        key=lambda item: _badness(item["result"]),
    )
    firsts = dict.fromkeys(i for i, item in enumerate(worst) if i == 0 or item["result"] != worst[i - 1]["result"])
    told = {*[*(firsts | dict.fromkeys(range(len(worst))))][:most]}
    return [worst[i] for i in sorted(told)], [item for i, item in enumerate(worst) if i not in told]


def _badness(result: str) -> int:
    return _WORST_FIRST.index(result) if result in _WORST_FIRST else -1


def _said(result: str) -> str:
    return _SAID.get(result, result)


def _harmless(value: Any) -> Any:
    """All text as a line can hold it: a verdict may come from another machine, names and values from programs."""
    if isinstance(value, str):
        return visible(value, _LONGEST)
    if isinstance(value, Mapping):
        return {key: _harmless(item) for key, item in value.items()}
    return [_harmless(item) for item in value] if isinstance(value, (list, tuple)) else value


def _labelled(label: str, text: str) -> str:
    return f"  {_marked(label)}{' ' * (_LABEL - 2 - len(label))}{text}"


def _block(label: str, pieces: Sequence[str]) -> Iterator[str]:
    """A label, and beside it lines with as many of the pieces as fit."""
    for index, line in enumerate(_filled(pieces)):
        yield line if index else _labelled(label, line.lstrip())


def _pair(one: str, other: str) -> list[str]:
    """What was replayed and what was recorded: one piece where that fits into a line."""
    fits = len(one) + len(other) + 2 <= _columns() - _LABEL
    return [f"{one}, {other}"] if fits else [one, other]


def _filled(pieces: Sequence[str]) -> Iterator[str]:
    """Lines below a label, each with as many of the pieces as fit; a piece that is longer is broken between words."""
    width = _columns() - _LABEL
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + len(piece) + 2 <= width:
            lines[-1] += f"; {piece}"
        else:
            lines.append(piece)
    for line in lines:
        for part in textwrap.wrap(line, width, break_on_hyphens=False):
            yield " " * _LABEL + part


def _broken(sentences: str) -> str:
    """Sentences in lines as a terminal has them, one line in a pipe."""
    return textwrap.fill(sentences, _columns(), break_on_hyphens=False) if sys.stdout.isatty() else sentences


def _middle(text: str, longest: int) -> str:
    """A text that is too long without its middle: of a path the beginning and the name tell most."""
    if len(text) <= longest:
        return text
    end = (longest - 1) * 2 // 3
    return text[: longest - 1 - end] + "…" + text[len(text) - end :]


def _columns() -> int:
    return max(40, shutil.get_terminal_size().columns)


def _marked(result: str) -> str:
    return coloured(result, _ALARMING[result], sys.stdout) if result in _ALARMING else result
