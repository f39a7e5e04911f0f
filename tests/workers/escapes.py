"""What a command tries that means harm: run inside by ``test_sandbox.py``, standard library only.

``python escapes.py targets.json`` prints a JSON object: for each escape what it got hold of. The
targets carry canaries, so what is printed proves itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

PTRACE_ATTACH, PTRACE_DETACH = 16, 17
SECONDS = 20.0

Escape = Callable[[dict[str, Any]], object]


def read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(100_000).decode("utf-8", "replace")


def environ_of_the_server(t: dict[str, Any]) -> str:
    """the environment of the server's processes, in /proc"""
    return "".join(_read_all("/proc/[0-9]*/environ"))


def environ_of_the_keeper(t: dict[str, Any]) -> str:
    """the environment and open files of the keeper around it"""
    keepers = [path.split("/")[2] for path in glob.glob("/proc/[0-9]*/cmdline") if _keeps(path)]
    places = [f"/proc/{pid}/{what}" for pid in keepers for what in ("environ", "fd/*")]
    return "".join(text for place in places for text in _read_all(place))


def memory_of_the_server(t: dict[str, Any]) -> str:
    """the memory of the server's processes, by ptrace"""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_ATTACH, t["server"], None, None) != 0:
        return ""
    os.waitpid(t["server"], 0)
    libc.ptrace(PTRACE_DETACH, t["server"], None, None)
    return str(t["canary"])


def database(t: dict[str, Any]) -> str:
    """the database file"""
    return read(f"{t['data']}/holdfast.sqlite3")


def secret_key(t: dict[str, Any]) -> str:
    """the secret key"""
    return read(f"{t['data']}/secret_key")


def another_clone(t: dict[str, Any]) -> str:
    """another card's clone"""
    return read(f"{t['data']}/workspaces/OTHER-1/1/tree/notes")


def through_proc(t: dict[str, Any]) -> str:
    """the data folder by way of /proc/*/root and /proc/*/cwd"""
    key = f"{t['data']}/secret_key".lstrip("/")
    return "".join(_read_all(f"/proc/[0-9]*/root/{key}"))


def below_the_mounts(t: dict[str, Any]) -> str:
    """the data folder by unmounting what hides it, in a namespace of its own"""
    script = f"umount -l {t['data']}; cat {t['data']}/secret_key"
    shell = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    return subprocess.run(shell, capture_output=True, text=True, timeout=60).stdout


def write_to_the_store(t: dict[str, Any]) -> str:
    """a file written into the data folder"""
    with open(f"{t['data']}/planted", "w") as file:
        file.write(t["canary"])
    return ""  # the test looks whether it is there


def write_outside(t: dict[str, Any]) -> str:
    """a file written outside of its own folder"""
    with open(f"{t['home']}/planted", "w") as file:
        file.write(t["canary"])
    return ""


def key_in_the_home(t: dict[str, Any]) -> str:
    """keys and tokens in a home folder"""
    return read(f"{t['home']}/.ssh/id_ed25519")


def a_link_to_the_key(t: dict[str, Any]) -> str:
    """the secret key by a hard link into its own folder"""
    os.link(f"{t['data']}/secret_key", "linked")
    return read("linked")


def a_daemons_socket(t: dict[str, Any]) -> str:
    """the socket of a container daemon, outside of the folder for temporary files"""
    return _ask(socket.AF_UNIX, t["daemon"])


def an_agents_socket(t: dict[str, Any]) -> str:
    """the socket of an SSH agent, in the folder for temporary files"""
    return _ask(socket.AF_UNIX, t["agent"])


def an_abstract_socket(t: dict[str, Any]) -> str:
    """a socket without a file, such as a desktop's bus"""
    return _ask(socket.AF_UNIX, "\0" + t["abstract"])


def the_network(t: dict[str, Any]) -> str:
    """services on this machine's own addresses, such as its databases, and beyond"""
    return _ask(socket.AF_INET, ("127.0.0.1", t["port"]))


def outliving_the_command(t: dict[str, Any]) -> str:
    """a process in a session of its own that outlives the command"""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.execvp("sleep", ["sleep", t["sleep"]])
        os._exit(0)
    os.wait()
    return ""  # the test looks whether it is there


def end_the_server(t: dict[str, Any]) -> str:
    """a signal that ends the server"""
    os.kill(t["server"], signal.SIGKILL)
    return ""


#: In this order: the last one ends what the others look at.
ESCAPES: dict[str, Escape] = {
    function.__name__: function
    for function in (
        environ_of_the_server,
        environ_of_the_keeper,
        memory_of_the_server,
        database,
        secret_key,
        another_clone,
        through_proc,
        below_the_mounts,
        write_to_the_store,
        write_outside,
        key_in_the_home,
        a_link_to_the_key,
        a_daemons_socket,
        an_agents_socket,
        an_abstract_socket,
        the_network,
        outliving_the_command,
        end_the_server,
    )
}


def _keeps(path: str) -> bool:
    with contextlib.suppress(OSError):
        return "keeper.py" in read(path)
    return False


def _read_all(pattern: str) -> list[str]:
    found = []
    for path in glob.glob(pattern):
        if os.path.isfile(path) or path.endswith("environ"):
            with contextlib.suppress(OSError):
                found.append(read(path))
    return found


def _ask(family: socket.AddressFamily, address: Any) -> str:
    with socket.socket(family) as call:
        call.settimeout(SECONDS)
        call.connect(address)
        return call.recv(1000).decode()


def main() -> None:
    with open(sys.argv[1]) as file:
        targets = json.load(file)
    got: dict[str, str] = {}
    for name, escape in ESCAPES.items():
        try:
            got[name] = str(escape(targets))
        except (OSError, subprocess.SubprocessError) as error:
            got[name] = f"{type(error).__name__}: {error}"
    time.sleep(0.1)
    with open("got.json", "w") as out:
        json.dump(got, out)


if __name__ == "__main__":
    main()
