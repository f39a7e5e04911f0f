"""What a command under bubblewrap sees of this machine: little, and most of it read-only.

/usr /bin /lib … /etc /opt /nix   as they are, read-only, without keys and password hashes
tools on PATH kept elsewhere      read-only: virtual environments, pyenv, nvm and their like
the attempt's own folders         writable
what an operator lets in          as said there
anything else                     is not there: homes, the store, other clones, sockets in /run
"""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix")
#: Not for commands, even where the server's user may read it.
SECRET_FILES = ("/etc/shadow*", "/etc/gshadow*", "/etc/ssh/ssh_host_*_key", "/etc/krb5.keytab")
SECRET_FOLDERS = ("/etc/ssl/private", "/etc/sudoers.d", "/etc/wireguard", "/etc/NetworkManager")
#: Folders in a shared temporary folder through which other programs can be spoken to.
DOORS = ("ssh-*", "tmux-*", "gpg-*", ".X11-unix", ".ICE-unix", "dbus-*", "systemd-private-*")
#: A tool's folder that holds more than the tool, such as who one is at a registry.
HOLD_SECRETS = (".local", ".cargo", ".docker", ".config", ".ssh", ".aws", ".kube", ".gnupg")


@dataclass(frozen=True, slots=True)
class View:
    """What lies beside the system folders. Where one path lies in another, the inner one counts.

    ``hidden`` files and folders look empty but for what is let in below them. ``tmp`` stands for
    /tmp, unless that is let in itself. ``network`` is whether the command shares the machine's.
    """

    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    tmp: Path | None = None
    network: bool = True


def mounts(view: View) -> list[str]:
    """Return the arguments with which bubblewrap makes the view."""
    made = ["--dev", "/dev", "--proc", "/proc", "--ro-bind-try", "/sys", "/sys", "--dir", "/run"]
    for folder in SYSTEM:
        if os.path.islink(folder):
            made += ["--symlink", os.readlink(folder), folder]
        else:
            made += ["--ro-bind-try", folder, folder]
    if view.network:
        # It often leads into /run, which is not there.
        resolver = os.path.realpath("/etc/resolv.conf")
        if not _within(resolver, SYSTEM) and os.path.isfile(resolver):
            made += ["--ro-bind", resolver, resolver]
    for pattern in SECRET_FILES:
        for path in glob.glob(pattern):
            made += ["--ro-bind", "/dev/null", path]
    for path in SECRET_FOLDERS:
        if os.path.isdir(path):
            made += ["--tmpfs", path]
    placed = _placed(view)
    for place in sorted(placed, key=lambda path: (path.count("/"), path)):
        made += placed[place]
    for place in sorted(placed):
        if placed[place][0] == "--tmpfs":
            made += ["--remount-ro", place]
    return [*made, "--remount-ro", "/"]


def _placed(view: View) -> dict[str, list[str]]:
    """Return what stands where, by path: of two wishes for one path, the later here counts."""
    placed: dict[str, list[str]] = {}
    let_in = {os.path.realpath(path) for path in view.writable}
    if view.tmp is not None:
        for place in ("/tmp", "/var/tmp"):
            placed[place] = ["--bind", os.path.realpath(view.tmp), place]
    for path in view.readable:
        for place in _names(path):
            if not _within(place, SYSTEM):
                placed[place] = ["--ro-bind-try", os.path.realpath(path), place]
    for path in view.writable:
        how = "--dev-bind-try" if _within(os.path.realpath(path), ("/dev",)) else "--bind-try"
        for place in _names(path):
            placed[place] = [how, os.path.realpath(path), place]
    for place in let_in:
        placed |= {door: mask for door, mask in _doors(place) if door not in let_in}
    around = (*SYSTEM, *placed)
    for path in view.hidden:
        for place in _names(path):
            if place in let_in or not _within(place, around):
                continue
            if os.path.isdir(place):
                placed[place] = ["--tmpfs", place]
            elif os.path.isfile(place):
                placed[place] = ["--ro-bind", "/dev/null", place]
    return placed


def _names(path: Path) -> Iterator[str]:
    """Yield what the path is called: its real name, and the one it is known by."""
    real, known = os.path.realpath(path), os.path.abspath(path)
    yield real
    # Below a link of the system's own the real name is enough: the link is there as well.
    if known != real and not _within(known, [f for f in SYSTEM if os.path.islink(f)]):
        yield known


def _within(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _doors(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Yield what closes the sockets of other programs in a folder that is let in."""
    if not os.path.isdir(folder) or not stat.S_ISVTX & os.stat(folder).st_mode:
        return  # only a folder for everybody, such as /tmp, has them
    for pattern in DOORS:
        for path in glob.glob(os.path.join(glob.escape(folder), pattern)):
            if os.path.isdir(path) and not os.path.islink(path):
                yield path, ["--tmpfs", path]
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # others come and go there
                if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                    yield entry.path, ["--ro-bind-try", "/dev/null", entry.path]


def toolchains(path: str, home: Path | None = None) -> tuple[Path, ...]:
    """Return the folders that the tools on ``path`` need, apart from the system's own.

    This process's Python is among them. A home folder itself never is.
    """
    home = home or Path(os.path.expanduser("~"))
    found: list[Path] = []
    for name in (*path.split(os.pathsep), os.path.dirname(sys.executable)):
        folder = Path(name)
        if folder.is_absolute() and folder.is_dir() and not _within(os.path.realpath(name), SYSTEM):
            found += _needed_by(folder, home)
    found += [Path(sys.prefix), Path(sys.base_prefix)]
    return tuple(p for p in dict.fromkeys(found) if p not in (home, *home.parents))


def _needed_by(folder: Path, home: Path) -> Iterator[Path]:
    """Yield the folders that the programs in a folder on PATH need."""
    above = folder.parent
    if above == home or above.name in HOLD_SECRETS:
        yield folder
        if above.name == ".local":
            yield from (above / "lib", above / "share/uv", above / "share/pipx")
        if above.name == ".cargo":
            yield above.with_name(".rustup")
    elif len(above.parts) == 2:
        yield from (folder, above / "lib", above / "libexec", above / "share")
    elif folder.name in ("bin", "sbin", "shims", ".bin"):
        yield above  # bin/tool finds its library in ../lib, shims/tool what it stands for
    else:
        yield folder
    if (above / "pyvenv.cfg").is_file():
        base = Path(os.path.realpath(folder / "python")).parent
        if base != folder and not _within(str(base), SYSTEM):
            yield from _needed_by(base, home)


def own_code() -> Sequence[Path]:
    """Return what the keeper needs to run inside: its own folder."""
    return (Path(__file__).resolve().parent,)
