"""Static files as they are in the checkout, and text among them as gzip to who takes it.

There is no collect step: a copy of each is kept in DATA_DIR, made when it is first asked for: to
make all of them at the start took a second of processor time. Where one can't be kept, the file
goes out as it is.

Pages name all of them below a version, a digest of what they hold together, and a browser keeps
what it got from there without asking again. Scripts name each other by relative addresses, so
that one version in the page's addresses is theirs too. After an upgrade all are named anew; those
of a page that is still open go on being served, as they are now, and are asked for each time.
"""

from __future__ import annotations

import functools
import gzip
import os
import re
from hashlib import sha256
from tempfile import NamedTemporaryFile
from typing import Any
from wsgiref.headers import Headers

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

_TEXT = (".css", ".js", ".json", ".svg", ".webmanifest", ".html", ".map")
#: Below, what it saves is less than a packet.
_LEAST_BYTES = 1000
_VERSIONED = re.compile(r"v-(?P<version>[0-9a-f]{16})/(?P<name>.+)")
_KEPT = "max-age=31536000, public, immutable"  # a year, the longest that RFC 9111 speaks of


@functools.cache
def version() -> str:
    """Return what all static files hold together, as 16 hexadecimal digits.

    Hosts that run the same version of Holdfast name them alike.
    """
    digest = sha256()
    files = (found for finder in finders.get_finders() for found in finder.list(None))
    for name, storage in sorted(files, key=lambda found: str(found[0])):
        with storage.open(name) as file:
            digest.update(f"{name}\0{file.size}\0".encode() + file.read())
    return digest.hexdigest()[:16]


class VersionedStorage(StaticFilesStorage):
    """Names files below the version; where DEBUG is on, as they are, to be edited."""

    def url(self, name: str | None) -> str:
        return super().url(name if settings.DEBUG else f"v-{version()}/{name}")


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._unpacked: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        below, _, asked = request.path_info.partition(self.static_prefix)
        found = None if below else _VERSIONED.fullmatch(asked)
        url = self.static_prefix + (found["name"] if found else asked)
        if below or not self._pack(url):
            return super().__call__(request)  # type: ignore[no-any-return]
        answer: HttpResponseBase = self.serve(self.files[url], request)
        if found and found["version"] == version():
            answer["Cache-Control"] = _KEPT
        return answer

    def get_static_file(self, path: str, url: str, stat_cache: Any = None) -> StaticFile:
        if path.endswith(_TEXT):
            self._unpacked[url] = path
        return super().get_static_file(path, url, stat_cache)

    def _pack(self, url: str) -> bool:
        """Return whether there is such a file; text goes out as gzip as well from now on."""
        path = self._unpacked.pop(url, "")
        copy = _copy_of(path) if path else ""
        if copy:
            headers = Headers([])
            self.add_mime_headers(headers, path, url)
            self.add_cache_headers(headers, path, url)
            headers["Access-Control-Allow-Origin"] = "*"
            self.files[url] = StaticFile(path, headers.items(), encodings={"gzip": copy})
        return url in self.files


def _copy_of(path: str) -> str:
    """Return where the gzip of the file is; empty where none is worth it, or can be kept."""
    folder = settings.DATA_DIR / "static"
    try:
        stat = os.stat(path)
        if stat.st_size < _LEAST_BYTES:
            return ""
        name = sha256(f"{path} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:32]
        copy = folder / f"{name}.gz"
        if not copy.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # Other processes start as well: a copy is there whole, or not at all.
            with open(path, "rb") as file, NamedTemporaryFile(dir=folder, delete=False) as making:
                making.write(gzip.compress(file.read(), 6, mtime=0))
            os.replace(making.name, copy)
    except OSError:
        return ""
    return str(copy)
