"""Shells that complete: the script that each of them needs, and where that is installed.

The scripts ask `outrider` itself, with `_OUTRIDER_COMPLETE` set, see `tab.py`. Typer's own are not used: bash takes
`any:words`, `room=kitchen` and `@kitchen` apart before it asks, and Typer's script does not put them together again.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Final

import shellingham  # type: ignore[import-untyped]  # it has no types  # pyright: ignore[reportMissingTypeStubs]

from outrider.schema import LocalError

VARIABLE: Final = "_OUTRIDER_COMPLETE"
"""The environment variable with the name of the shell that asks."""


class Shell(StrEnum):
    """Those that have a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


class UnknownShell(LocalError):
    """There is no completion for this shell."""


SCRIPTS: Final = {
    # COMP_WORDS is split at : = @ as well, so the line goes as it is; $2 is the part of the word that bash replaces.
    # bash 3.2, which macOS has, knows neither mapfile nor compopt.
    Shell.BASH: """\
_outrider_completion() {
    local kind line program=$1
    case $program in "~/"*) program=$HOME/${program#"~/"} ;; esac
    COMPREPLY=()
    while IFS= read -r line; do
        if [ -z "$kind" ]; then kind=$line; else COMPREPLY+=("$line"); fi
    done < <(_OUTRIDER_COMPLETE=bash "$program" "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
    case $kind in
        more) compopt -o nospace 2>/dev/null ;;
        files) compopt -o default 2>/dev/null ;;
    esac
    return 0
}
complete -F _outrider_completion outrider
""",
    Shell.ZSH: """\
#compdef outrider
_outrider() {
    local kind value help
    local -a whole open
    while IFS=$'\\t' read -r kind value help; do
        value=${${value//\\\\/\\\\\\\\}//:/\\\\:}
        case $kind in
            files) _files; return ;;
            more) open+=("$value${help:+:$help}") ;;
            whole) whole+=("$value${help:+:$help}") ;;
        esac
    done < <(_OUTRIDER_COMPLETE=zsh "${(Q)words[1]}" "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    local result=1
    (( $#whole )) && _describe -t words word whole && result=0
    (( $#open )) && _describe -t beginnings beginning open -S '' && result=0
    return result
}
if [[ $funcstack[1] == _outrider ]]; then _outrider "$@"; else compdef _outrider outrider; fi
""",
    Shell.FISH: """\
function __outrider_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found (_OUTRIDER_COMPLETE=fish $words[1] $words[2..] "$current" 2>/dev/null)
    if test "$found[1]" = files
        __fish_complete_path "$current"
    else
        printf '%s\\n' $found
    end
end
complete --command outrider --no-files --arguments '(__outrider_complete)'
""",
}


def current_shell() -> Shell:
    """The shell that this program was started from, else the user's.

    :raises UnknownShell: it is none that has a script.
    """
    try:
        name = str(shellingham.detect_shell()[0])  # pyright: ignore[reportUnknownMemberType]
    except shellingham.ShellDetectionFailure:
        name = Path(os.environ.get("SHELL", "")).name
    try:
        return Shell(name)
    except ValueError:
        raise UnknownShell(
            f"no completion for {name or 'this shell'}: name one of {', '.join(Shell)}, as --show-completion bash"
        ) from None


def install(shell: Shell) -> Path:
    """Put a shell's script where new shells find it, for this user; return where. Once more does no harm.

    :raises UnknownShell: a file cannot be written.
    """
    try:
        return _install(shell)
    except OSError as error:
        raise UnknownShell(
            f"completion for {shell} is not installed: {error}; put there by hand what --show-completion {shell} prints"
        ) from error


def _install(shell: Shell) -> Path:
    home = Path.home()
    match shell:
        case Shell.BASH:
            path = home / ".bash_completions" / "outrider.sh"
            _append(home / ".bashrc", f"source '{path}'")
        case Shell.ZSH:
            path = home / ".zfunc" / "_outrider"
            folder = Path(os.environ.get("ZDOTDIR") or home)
            _append(folder / ".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit")
        case Shell.FISH:
            configuration = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
            path = configuration / "fish" / "completions" / "outrider.fish"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SCRIPTS[shell])
    return path


def _append(path: Path, line: str) -> None:
    """Add a line to a file that has it not."""
    content = path.read_text() if path.exists() else ""
    if line not in content.splitlines():
        path.parent.mkdir(parents=True, exist_ok=True)
        begin = "" if not content or content.endswith("\n") else "\n"
        with path.open("a") as file:
            file.write(f"{begin}{line}\n")
