"""How a shell asks for completion, and which function knows what (see `complete`).

Imported only when a shell asks, or a script for one is wanted: a start of orch does not pay for it. Typer parses the
line, finds the option or argument, and installs the scripts; the scripts themselves are ours, since typer's let bash
expand what is proposed, let zsh evaluate it, and know no word that goes on behind "=".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import typer
from typer import _completion_classes, _completion_shared

from orchestrator.cli import complete

Find = Callable[[complete.Line], "complete.Candidates"]

MOST = 1000
"""How many candidates are looked at from each source; more are for nobody to read."""

_BASH = r"""
_orch_completion() {
    local line=${COMP_LINE:0:COMP_POINT} word before="" value text i
    local -a told=()
    word=${line##*[[:blank:]]}
    # Bash itself sees a new word behind = and :, and puts what is proposed there.
    if [[ $word != [\"\']* ]]; then
        [[ $COMP_WORDBREAKS == *=* && $word == *=* ]] && before=${word%"${word##*=}"}
        [[ $COMP_WORDBREAKS == *:* && $word == *:* ]] && value=${word%"${word##*:}"} &&
            ((${#value} > ${#before})) && before=$value
    fi
    COMPREPLY=()
    while IFS= read -r text; do
        value=${text%%$'\t'*}
        if [[ $text == *$'\tNOTHING' ]]; then
            compopt +o default 2>/dev/null
            break
        fi
        [[ -z $value ]] && continue
        [[ $value == *[=/] ]] && compopt -o nospace 2>/dev/null
        printf -v value %q "${value#"$before"}"
        COMPREPLY+=("$value")
        [[ $text == *$'\t'?* ]] && value+="  (${text#*$'\t'})"
        told+=("${value:0:${COLUMNS:-80}}")
    done < <(env _TYPER_COMPLETE_ARGS="$line" _TYPER_COMPLETE_FISH_ACTION=get-args \
        _ORCH_COMPLETE=complete_fish "${1/#\~/$HOME}" 2>/dev/null)
    # Where bash only lists them, their descriptions stand beside; what they begin with alike is put in as it is.
    if ((${#COMPREPLY[@]} > 1 && (COMP_TYPE == 63 || COMP_TYPE == 33 || COMP_TYPE == 64))); then
        for i in "${!COMPREPLY[@]}"; do
            COMPREPLY[i]=${told[i]}
        done
    fi
}
complete -o nosort -o default -F _orch_completion orch 2>/dev/null ||
    complete -o default -F _orch_completion orch
"""

_ZSH = r"""
#compdef orch
_orch_completion() {
    local line value
    integer nothing=0
    local -a plain plain_shown open open_shown
    for line in "${(@f)$(env _TYPER_COMPLETE_ARGS="${(j: :)words[1,CURRENT]}" _TYPER_COMPLETE_FISH_ACTION=get-args \
        _ORCH_COMPLETE=complete_fish "${words[1]/#\~/$HOME}" 2>/dev/null)}"; do
        value=${line%%$'\t'*}
        [[ $line == *$'\tNOTHING' ]] && nothing=1 && break
        [[ -z $value ]] && continue
        [[ $line == *$'\t'?* ]] && line="$value  -- ${line#*$'\t'}"
        if [[ $value == *[=/] ]]; then
            open+=("$value") open_shown+=("$line")
        else
            plain+=("$value") plain_shown+=("$line")
        fi
    done
    ((nothing)) && return 1
    if ((! ($#plain + $#open))); then
        _files
        return
    fi
    (($#open)) && compadd -S '' -V open -l -d open_shown -- "${open[@]}"
    (($#plain)) && compadd -V plain -l -d plain_shown -- "${plain[@]}"
    return 0
}
# In a folder of fpath all of this is the function _orch.
if [[ ${funcstack[1]} == _orch ]]; then
    _orch_completion "$@"
else
    compdef _orch_completion orch
fi
"""

_FISH = r"""
function __orch_completion
    set -l words (commandline -opc)
    set -l program (string replace -r '^~' $HOME -- $words[1])
    set -l found (env _TYPER_COMPLETE_ARGS=(commandline -cp | string collect) _TYPER_COMPLETE_FISH_ACTION=get-args \
        _ORCH_COMPLETE=complete_fish $program 2>/dev/null | string match -r '.+')
    if string match -q -r '\tNOTHING$' -- $found
        return
    else if set -q found[1]
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete --command orch --no-files --keep-order --arguments '(__orch_completion)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

_KNOWN: dict[tuple[str, str], tuple[Find, ...]] = {
    ("", "experiment_name"): (complete.experiments,),
    ("", "status"): (complete.statuses,),
    ("", "platform"): (complete.platforms,),
    ("", "run"): (complete.runs,),
    ("", "runs"): (complete.runs,),
    ("", "environment"): (complete.runs, complete.locks, complete.files),
    ("run", "version"): (complete.revisions,),
    ("run", "entry_point"): (complete.entry_points,),
    ("run", "parameter"): (complete.parameters,),
    ("replay", "run"): (complete.runs, complete.bundles),
    ("attach", "run"): (complete.live_runs,),
    ("logs", "run"): (complete.logged_runs,),
    ("stop", "runs"): (complete.live_runs,),
    ("get", "patterns"): (complete.outputs,),
    ("diff", "one"): (complete.runs,),
    ("diff", "other"): (complete.runs,),
    ("env export", "format"): (complete.formats,),
    ("env diff", "one"): (complete.runs, complete.locks, complete.files),
    ("env diff", "other"): (complete.runs, complete.locks, complete.files),
}
"""Who knows the values of which option or argument, of one command or ("") of every one that has it."""

_NO_FILES = {
    *(complete.runs, complete.live_runs, complete.logged_runs, complete.outputs, complete.revisions),
    *(complete.entry_points, complete.experiments, complete.statuses, complete.platforms, complete.formats),
}
"""Whose values are no files: where nothing fits, the shell shall not propose its own."""

_NOTHING = "NOTHING"
"""What is told of the typed word then, for the scripts."""

_SAFE = re.compile(r"[\w@%+=:,./][\w@%+=:,./ -]*")
"""Words that no shell takes for anything but text (a blank is quoted by the scripts), or orch for an option."""


def teach(app: typer.Typer, above: str = "") -> None:
    """Tell typer who knows the values of the options and arguments of all commands."""
    for command in app.registered_commands:
        if command.callback is None:
            continue
        name = above + (command.name or command.callback.__name__)
        for parameter, annotation in command.callback.__annotations__.items():
            finds = _KNOWN.get((name, parameter)) or _KNOWN.get(("", parameter))
            if finds is not None and hasattr(annotation, "__metadata__"):
                _give(command.callback.__annotations__, parameter, finds)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            teach(group.typer_instance, f"{group.name} ")


def _give(annotations: dict[str, Any], parameter: str, finds: Sequence[Find]) -> None:
    from copy import copy
    from typing import Annotated

    annotation = annotations[parameter]
    info = copy(annotation.__metadata__[0])  # several commands may share it
    info.autocompletion = _answering(finds)
    annotations[parameter] = Annotated[annotation.__origin__, info]


def _answering(finds: Sequence[Find]) -> Callable[[typer.Context, str], list[tuple[str, str]]]:
    def answer(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        found: dict[str, str] = {}
        line = complete.Line(incomplete, ctx.params, ctx.args)
        given = {*line.texts("runs"), line.text("one")}  # nobody wants the same run twice
        for find in finds:
            # Whatever is damaged, locked or not there: a shell that asks gets nothing to read but candidates.
            with contextlib.suppress(Exception):
                for word, text in islice(find(line), MOST):
                    if word.startswith(incomplete) and word not in given and _SAFE.fullmatch(word):
                        found.setdefault(word, _plain(text))
        nothing = [(incomplete, _NOTHING)] if _NO_FILES.issuperset(finds) else []
        return list(found.items()) or nothing

    return answer


def _plain(text: str) -> str:
    """A help text as one line of a terminal."""
    from orchestrator.cli.text import visible

    return visible(" ".join(text.split()), 100)


def use_own_scripts() -> None:
    """Typer installs and shows our scripts, and writes help texts as they are: it would have rich draw each."""
    # Names of typer's own; where another version has others, its scripts are installed.
    vars(_completion_shared).get("_completion_scripts", {}).update(
        {shell: script.replace("%", "%%") for shell, script in SCRIPTS.items()}  # typer formats them
    )
    vars(_completion_classes)["_sanitize_help_text"] = _plain
