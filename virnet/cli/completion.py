"""
C{completion}: scripts that make bash and zsh complete the command.

Commands, options and their choices are written into the script, so that they are there at once. Names of
domains, pools and volumes, and procedures, are asked for when they are wanted (C{virnet __complete}), with
the URI that stands in the line, and are not waited for longer than two seconds.
"""

from __future__ import annotations

from argparse import Namespace, _SubParsersAction
from typing import Any, NamedTuple

from virnet.cli.arguments import Parser, buildParser
from virnet.cli.options import EVENTS
from virnet.cli.output import Output
from virnet.cli.table import COMMANDS, HIDDEN


class _Taken(NamedTuple):
    """What a command takes.

    @ivar flags: options without a value.
    @ivar values: options with one, and what a shell offers for it.
    @ivar words: what it offers for each argument; the last is for all further ones.
    """

    flags: list[str]
    values: dict[str, str]
    words: list[str]


def completion(options: Namespace, output: Output) -> None:
    """C{completion}"""
    output.document(script(options.shell))


def script(shell: str) -> str:
    """Make the script for C{bash} or C{zsh}."""
    taken = {name: _taken(parser) for name, parser in _parsers().items()}
    common = _taken(buildParser({}, ()))
    cases, kinds = [], []
    for name, each in taken.items():
        own = [flag for flag in (*each.flags, *each.values) if flag not in (*common.flags, *common.values)]
        flags = " ".join(own)
        cases.append(f"        {name}) flags='{flags}'; words='{' '.join(each.words)}' ;;")
        kinds += [f"        {name}:{option}) kind={kind} ;;" for option, kind in each.values.items()]
    kinds += [f"        *:{option}) kind={kind} ;;" for option, kind in common.values.items()]
    names = " ".join(name for name in COMMANDS if name not in HIDDEN)
    valued = {option for each in (*taken.values(), common) for option in each.values}
    body = (
        _BODY.replace("@COMMANDS@", names)
        .replace("@COMMON@", " ".join([*common.flags, *common.values]))
        .replace("@VALUED@", "|".join(sorted(valued)))
        .replace("@CASES@", "\n".join(cases))
        .replace("@KINDS@", "\n".join(kinds))
        .replace("@EVENTS@", " ".join(EVENTS))
    )
    return body + {"bash": _BASH, "zsh": _ZSH}[shell]


def _parsers() -> dict[str, Parser]:
    (action,) = (each for each in buildParser({})._actions if isinstance(each, _SubParsersAction))
    return {name: parser for name, parser in action.choices.items() if name not in HIDDEN}


def _taken(parser: Parser) -> _Taken:
    flags: list[str] = []
    values: dict[str, str] = {}
    words: list[str] = []
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            # What one of its actions takes is offered for all of them.
            words.append(_kind(action))
            for each in map(_taken, action.choices.values()):
                flags += [flag for flag in each.flags if flag not in flags]
                values.update(each.values)
            continue
        if not action.option_strings:
            words.append(_kind(action))
        elif action.nargs == 0:
            flags += action.option_strings
        else:
            values.update(dict.fromkeys(action.option_strings, _kind(action)))
    return _Taken(flags, values, words)


def _kind(action: Any) -> str:
    if action.choices:
        return "=" + ",".join(action.choices)
    kind: str = getattr(action, "completes", "nothing")
    return kind


_BODY = """\
# Completion of the virnet command; made by `virnet completion`.
#
# _virnet_offer WORD... : WORD... is the line up to the cursor, without "virnet". Prints what may stand there.
# The first line is "files" where file names may stand as well.
_virnet_offer() {
    local word previous='' command='' uri='' pool='' flags='' words='' kind='' seen=0 takes=''
    local current="${*: -1}"
    while [ $# -gt 1 ]; do
        word=$1; shift
        if [ -n "$takes" ]; then
            case $takes in
                -c|--connect) uri=$word ;;
                -p|--pool) pool=$word ;;
            esac
            takes=''
        else
            case $word in
                @VALUED@) takes=$word ;;
                --connect=*) uri=${word#*=} ;;
                --pool=*) pool=${word#*=} ;;
                -*) ;;
                *) if [ -z "$command" ]; then command=$word; else seen=$((seen + 1)); fi ;;
            esac
        fi
    done
    previous=$takes
    case $command in
@CASES@
    esac
    if [ -n "$previous" ]; then
        case $command:$previous in
@KINDS@
        esac
    elif [ "${current#-}" != "$current" ]; then
        _virnet_words "$flags @COMMON@" "$current"
        return
    elif [ -z "$command" ]; then
        _virnet_words '@COMMANDS@' "$current"
        return
    else
        local rest=$words
        while [ $seen -gt 0 ]; do
            case $rest in
                *' '*) rest=${rest#* } ;;
                # JSON, or nothing, behind the last.
                *) [ "$command" = call ] || [ "$command" = bench ] || rest='' ;;
            esac
            seen=$((seen - 1))
        done
        kind=${rest%% *}
    fi
    case $kind in
        =*) _virnet_words "$(printf '%s' "${kind#=}" | tr ',' ' ')" "$current" ;;
        event) _virnet_words '@EVENTS@' "$current" ;;
        file) echo files ;;
        domain|pool|volume|procedure)
            set -- __complete "$kind"
            [ -z "$pool" ] || set -- "$@" --pool "$pool"
            [ -z "$uri" ] || set -- "$@" --connect "$uri"
            "${_virnet_command:-virnet}" "$@" 2>/dev/null </dev/null | while IFS= read -r word; do
                case $word in "$current"*) printf '%s\\n' "$word" ;; esac
            done ;;
    esac
}

# _virnet_words "WORD..." PREFIX : prints those that begin with PREFIX.
_virnet_words() {
    printf '%s\\n' "$1" | tr ' ' '\\n' | while IFS= read -r word; do
        [ -z "$word" ] || case $word in "$2"*) printf '%s\\n' "$word" ;; esac
    done
}
"""

_BASH = """
_virnet() {
    # A URI has colons, which bash takes for ends of words: put together what belongs together.
    local line=() word glue='' i offered
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ ${#line[@]} -gt 0 && ( $word == [:=]* || -n $glue ) && $COMP_WORDBREAKS == *[:=]* ]]; then
            line[-1]+=$word
        else
            line+=("$word")
        fi
        glue=''
        [[ $word == *[:=] ]] && glue=1
    done
    # As typed, with quotes: the shell has not read them yet.
    for i in "${!line[@]}"; do
        word=${line[i]}
        word=${word#[\\"\\']}; word=${word%[\\"\\']}
        line[i]=${word//\\\\/}
    done
    local current=${line[-1]}
    COMPREPLY=()
    while IFS= read -r offered; do
        if [[ $offered == files ]]; then
            compopt -o filenames
            while IFS= read -r offered; do COMPREPLY+=("$offered"); done < <(compgen -f -- "$current")
        else
            COMPREPLY+=("$(printf '%q' "$offered")")
        fi
    done < <(_virnet_offer "${line[@]}")
    # bash replaces only what is behind the last colon.
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local before=${current%"${current##*:}"}
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"$before"}; done
    fi
}
complete -F _virnet virnet
"""

_ZSH = """
_virnet_as_sh() {
    emulate -L sh
    _virnet_offer "$@"
}

_virnet() {
    local -a offered line
    line=("${(@Q)words[2,CURRENT]}")
    offered=("${(@f)$(_virnet_as_sh "${line[@]}")}")
    if [[ ${offered[1]} == files ]]; then
        _files
    elif [[ -n ${offered[1]} ]]; then
        compadd -- "${offered[@]}"
    fi
}
compdef _virnet virnet
"""
