"""Running git where neither the user's settings nor a repository's tricks take part.

Every call gets an environment of its own: no ``GIT_*`` of ours, no system or user settings
but the ones below, no prompt, no hooks, no transport that could start a program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel.addresses import opened

#: What a network needs, and nothing else, is passed on.
_PASSED_ON = (
    "PATH",
    "SSH_AUTH_SOCK",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
)

# A file, not ``-c`` options: git drops those when it starts the far side of a local clone.
# safe.directory: an operator named the repository; its owner is often another user (a volume
# in a container). receive: a folder whose checked-out branch is pushed to is brought along if it
# is clean, else the push is refused. fsync: git leaves new objects to the page cache unless told
# otherwise.
_SETTINGS = """\
[core]
	fsync = all,-index
	looseCompression = 1
	hooksPath = /dev/null
	attributesFile = /dev/null
	excludesFile = /dev/null
	fsmonitor = false
	autocrlf = false
	safecrlf = false
	askPass =
[index]
	version = 4
[gc]
	auto = 0
[maintenance]
	auto = false
[safe]
	directory = *
[submodule]
	recurse = false
[commit]
	gpgSign = false
[user]
	name = Holdfast
	email = holdfast@localhost
[init]
	defaultBranch = main
[receive]
	denyCurrentBranch = updateInstead
[credential]
	helper =
[http]
	lowSpeedLimit = 1000
	lowSpeedTime = 60
[advice]
	addEmbeddedRepo = false
	detachedHead = false
"""

LOCAL_SECONDS = 900.0
CLONE_SECONDS = 1800.0


class GitFailed(Exception):
    """A git command failed, is missing or took too long. The message is git's own last words."""


@dataclass(frozen=True, slots=True)
class Git:
    """Git with private settings.

    ``variables`` are added to its environment. ``held`` are descriptors that every call keeps
    open: a file lock among them stays locked until the last git process is gone, even when
    the process that started it was killed.
    """

    settings_file: Path
    variables: Mapping[str, str]
    held: tuple[int, ...] = ()

    @classmethod
    def with_settings_in(cls, folder: Path) -> Git:
        """Return a git whose settings file is kept in ``folder``."""
        path = folder / "gitconfig"
        if not path.exists() or path.read_text() != _SETTINGS:
            folder.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f"gitconfig.{os.getpid()}")
            draft.write_text(_SETTINGS)
            draft.replace(path)
        return cls(path, {})

    def having(self, *held: int, **variables: str) -> Git:
        """Return the same git with more variables and descriptors."""
        return Git(self.settings_file, {**self.variables, **variables}, (*self.held, *held))

    def environment(self) -> dict[str, str]:
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return {
            **env,
            "HOME": "/nonexistent",
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_GLOBAL": str(self.settings_file),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=20",
            "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            **self.variables,
        }

    def run(
        self,
        *arguments: str,
        cwd: Path,
        stdin: bytes = b"",
        timeout_seconds: float = LOCAL_SECONDS,
        accept: Sequence[int] = (0,),
    ) -> bytes:
        """Return what ``git`` printed. Raises GitFailed for an exit code not in ``accept``."""
        return self.heard(
            *arguments, cwd=cwd, stdin=stdin, timeout_seconds=timeout_seconds, accept=accept
        )[0]

    def heard(
        self,
        *arguments: str,
        cwd: Path,
        stdin: bytes = b"",
        timeout_seconds: float = LOCAL_SECONDS,
        accept: Sequence[int] = (0,),
    ) -> tuple[bytes, bytes]:
        """Return what ``git`` printed, and what it warned of. Raises GitFailed for an exit code
        not in ``accept``.

        What opens an address among the arguments stands in the environment of this one git, never
        on its command line or in the configuration of a clone. No process of it is left when this
        returns or raises, short of kill -9 of this one.
        """
        try:
            arguments, let_in = _let_in(arguments)
            process = subprocess.Popen(
                ["git", *arguments],
                cwd=cwd,
                env={**self.environment(), **let_in},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=self.held,
                start_new_session=True,
            )
        except FileNotFoundError:
            if not cwd.is_dir():
                raise GitFailed(f"the folder {cwd} is gone") from None
            raise GitFailed("git is not installed on this machine") from None
        except OSError as error:
            raise GitFailed(f"git could not be started: {error.strerror}") from None
        try:
            output, errors = process.communicate(stdin, timeout_seconds)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise GitFailed(
                    f"git {arguments[0]} took longer than {timeout_seconds:.0f} s"
                ) from None
            raise
        if process.returncode not in accept:
            raise GitFailed(last_words(errors) or f"git {arguments[0]} ended {process.returncode}")
        return output, errors

    def line(self, *arguments: str, cwd: Path, stdin: bytes = b"") -> str:
        """Return the one line that ``git`` printed."""
        return self.run(*arguments, cwd=cwd, stdin=stdin).decode("utf-8", "replace").strip()


#: Asked by git once the other side wants to know who calls.
_HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" '
    '"$HOLDFAST_GIT_USER" "$HOLDFAST_GIT_PASSWORD"; }; f'
)


def _let_in(arguments: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the arguments without the user and password of the address in them, and the variables
    by which git is let in there, and at no other host that it may be sent on to."""
    found = next((place for one in arguments if (place := opened(one)) is not None), None)
    if found is None:
        return tuple(arguments), {}
    helper = ("-c", f"credential.{found.root}.helper={_HELPER}")
    bare = (place.address if (place := opened(one)) else one for one in arguments)
    variables = {"HOLDFAST_GIT_USER": found.user, "HOLDFAST_GIT_PASSWORD": found.password}
    return (*helper, *bare), variables


def last_words(errors: bytes) -> str:
    """Return what git complained about, in one short line."""
    lines = [line.strip() for line in errors.decode("utf-8", "replace").splitlines()]
    for word in ("fatal:", "error:"):
        for line in lines:
            if line.startswith(word):
                return line.removeprefix(word).strip()[:300].rstrip(".")
    return (lines[-1] if lines else "")[:300].rstrip(".")
