"""What a secret may be called: a variable that no program takes for its own."""

from __future__ import annotations

import re

from kernel.errors import Invalid

MAX_NAME_CHARS = 100

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Variables that say where and how programs run, so that a value there breaks them all.
_TAKEN = frozenset(
    {
        "BASHOPTS",
        "BASH_ENV",
        "CDPATH",
        "CLASSPATH",
        "ENV",
        "GCONV_PATH",
        "GLOBIGNORE",
        "HOME",
        "HOSTNAME",
        "IFS",
        "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "LANG",
        "LANGUAGE",
        "LOGNAME",
        "MAIL",
        "NODE_OPTIONS",
        "NODE_PATH",
        "OLDPWD",
        "OPTIND",
        "PATH",
        "PERL5LIB",
        "PERL5OPT",
        "POSIXLY_CORRECT",
        "PPID",
        "PROMPT_COMMAND",
        "PS1",
        "PS2",
        "PS4",
        "PWD",
        "RUBYLIB",
        "RUBYOPT",
        "SHELL",
        "SHELLOPTS",
        "SHLVL",
        "TEMP",
        "TERM",
        "TMP",
        "TMPDIR",
        "TZ",
        "UID",
        "USER",
    }
)
_TAKEN_BEGINNINGS = ("HOLDFAST_", "LD_", "DYLD_", "GIT_", "PYTHON", "LC_", "BASH_FUNC_")


def check_name(name: str, field: str = "name") -> None:
    """Pass if commands can have a secret of this name. Raises Invalid naming the field."""
    if len(name) > MAX_NAME_CHARS:
        raise Invalid.field(field, f"is longer than {MAX_NAME_CHARS} characters; shorten it.")
    if not _NAME.fullmatch(name):
        raise Invalid.field(
            field, "must be that of a variable: letters, digits and _, no digit first."
        )
    if name in _TAKEN or name.startswith(_TAKEN_BEGINNINGS):
        raise Invalid.field(
            field, f"{name} says how programs run, so it can't be a secret; use another name."
        )
