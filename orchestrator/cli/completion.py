"""How a shell asks for completion, and which function knows what (see `complete`).

Imported only when a shell asks, or a script for one is wanted: a start of orch does not pay for it. Typer parses the
line, finds the option or argument, and installs the scripts; the scripts themselves are ours, since typer's let bash
expand what is proposed, let zsh evaluate it, and know no word that goes on behind "=".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import typer
from typer import _completion_classes, _completion_shared

from orchestrator.cli import complete

Find = Callable[[complete.Line, str], "complete.Candidates"]

MOST = 500
"""How many candidates are offered; more are for nobody to read."""

_BASH = r"""
_orch_completion() {
    local line=${COMP_LINE:0:COMP_POINT} word before="" value
    word=${line##*[[:blank:]]}
    # Bash itself sees a new word behind = and :, and puts what is proposed there.
    if [[ $word != [\"\']* ]]; then
        [[ $COMP_WORDBREAKS == *=* && $word == *=* ]] && before=${word%"${word##*=}"}
        [[ $COMP_WORDBREAKS == *:* && $word == *:* ]] && value=${word%"${word##*:}"} &&
            ((${#value} > ${#before})) && before=$value
    fi
    COMPREPLY=()
    while IFS=$'\t' read -r value _; do
        [[ -z $value ]] && continue
        [[ $value == *[=/] ]] && compopt -o nospace 2>/dev/null
        printf -v value %%q "${value#"$before"}"
        COMPREPLY+=("$value")
    done < <(env _TYPER_COMPLETE_ARGS="$line" _TYPER_COMPLETE_FISH_ACTION=get-args \
        %(autocomplete_var)s=complete_fish "${1/#\~/$HOME}" 2>/dev/null)
}
complete -o nosort -o default -F _orch_completion %(prog_name)s 2>/dev/null ||
    complete -o default -F _orch_completion %(prog_name)s
"""

_ZSH = r"""
#compdef %(prog_name)s
_orch_completion() {
    local line value
    local -a plain plain_shown open open_shown
    for line in "${(@f)$(env _TYPER_COMPLETE_ARGS="${(j: :)words[1,CURRENT]}" _TYPER_COMPLETE_FISH_ACTION=get-args \
        %(autocomplete_var)s=complete_fish "${words[1]/#\~/$HOME}" 2>/dev/null)}"; do
        value=${line%%%%$'\t'*}
        [[ -z $value ]] && continue
        [[ $line == *$'\t'?* ]] && line="$value  -- ${line#*$'\t'}"
        if [[ $value == *[=/] ]]; then
            open+=("$value") open_shown+=("$line")
        else
            plain+=("$value") plain_shown+=("$line")
        fi
    done
    if ((! ($#plain + $#open))); then
        _files
        return
    fi
    (($#open)) && compadd -S '' -V open -l -d open_shown -- "${open[@]}"
    (($#plain)) && compadd -V plain -l -d plain_shown -- "${plain[@]}"
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _orch_completion "$@"
else
    compdef _orch_completion %(prog_name)s
fi
"""

_FISH = r"""
function __orch_completion
    set -l words (commandline -opc)
    set -l program (string replace -r '^~' $HOME -- $words[1])
    set -l found (env _TYPER_COMPLETE_ARGS=(commandline -cp | string collect) _TYPER_COMPLETE_FISH_ACTION=get-args \
        %(autocomplete_var)s=complete_fish $program 2>/dev/null | string match -r '.+')
    if set -q found[1]
        printf '%%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete --command %(prog_name)s --no-files --keep-order --arguments '(__orch_completion)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

_KNOWN: dict[tuple[str, str], Find] = {
    ("", "experiment_name"): complete.experiments,
    ("", "status"): complete.statuses,
    ("", "platform"): complete.platforms,
    ("", "run"): complete.runs,
    ("", "runs"): complete.runs,
    ("", "environment"): complete.environments,
    ("run", "version"): complete.revisions,
    ("run", "entry_point"): complete.entry_points,
    ("run", "parameter"): complete.parameters,
    ("replay", "run"): complete.runs_and_files,
    ("attach", "run"): complete.live_runs,
    ("stop", "runs"): complete.live_runs,
    ("get", "patterns"): complete.outputs,
    ("diff", "one"): complete.runs,
    ("diff", "other"): complete.runs,
    ("env export", "format"): complete.formats,
    ("env diff", "one"): complete.environments,
    ("env diff", "other"): complete.environments,
}
"""Who knows the values of which option or argument, of one command or ("") of every one that has it."""

_SAFE = re.compile(r"[\w@%+=:,./][\w@%+=:,./ -]*")
"""Words that no shell takes for anything but text (a blank is quoted by the scripts), or orch for an option."""


def teach(app: typer.Typer, above: str = "") -> None:
    """Tell typer who knows the values of the options and arguments of all commands."""
    for command in app.registered_commands:
        if command.callback is None:
            continue
        name = above + (command.name or command.callback.__name__)
        for parameter, annotation in command.callback.__annotations__.items():
            find = _KNOWN.get((name, parameter)) or _KNOWN.get(("", parameter))
            if find is not None and hasattr(annotation, "__metadata__"):
                _give(command.callback.__annotations__, parameter, find)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            teach(group.typer_instance, f"{group.name} ")


def _give(annotations: dict[str, Any], parameter: str, find: Find) -> None:
    from copy import copy
    from typing import Annotated

    annotation = annotations[parameter]
    info = copy(annotation.__metadata__[0])  # several commands may share it
    info.autocompletion = _answering(find)
    annotations[parameter] = Annotated[annotation.__origin__, info]


def _answering(find: Find) -> Callable[[typer.Context, str], list[tuple[str, str]]]:
    def answer(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        found: dict[str, str] = {}
        # Whatever is damaged, locked or not there: a shell that asks gets nothing to read but candidates.
        try:
            for word, text in find(complete.Line(ctx.params, ctx.args), incomplete):
                if word.startswith(incomplete) and _SAFE.fullmatch(word) and len(found) < MOST:
                    found.setdefault(word, _plain(text))
        except Exception:  # noqa: S110 - see above
            pass
        return list(found.items())

    return answer


def _plain(text: str) -> str:
    """A help text as one line of a terminal."""
    from orchestrator.cli.text import visible

    return visible(" ".join(text.split()), 60)


def use_own_scripts() -> None:
    """Typer installs and shows our scripts, and writes help texts as they are: it would have rich draw each."""
    # Names of typer's own; where another version has others, its scripts are installed.
    vars(_completion_shared).get("_completion_scripts", {}).update(SCRIPTS)
    vars(_completion_classes)["_sanitize_help_text"] = _plain
