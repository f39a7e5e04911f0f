"""Static files as they are in the checkout, and text among them as gzip to who takes it.

There is no collect step: a copy of each is kept in DATA_DIR, made when a web process first starts
with that file. Where it can't be kept, the file goes out as it is.
"""

from __future__ import annotations

import gzip
import os
from hashlib import sha256
from tempfile import NamedTemporaryFile
from typing import Any
from wsgiref.headers import Headers

from django.conf import settings
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

_TEXT = (".css", ".js", ".json", ".svg", ".webmanifest", ".html", ".map")
#: Below, what it saves is less than a packet.
_LEAST_BYTES = 1000


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]
    def get_static_file(self, path: str, url: str, stat_cache: Any = None) -> StaticFile:
        copy = _copy_of(path) if path.endswith(_TEXT) else ""
        if not copy:
            return super().get_static_file(path, url, stat_cache)
        headers = Headers([])
        self.add_mime_headers(headers, path, url)
        self.add_cache_headers(headers, path, url)
        headers["Access-Control-Allow-Origin"] = "*"
        return StaticFile(path, headers.items(), encodings={"gzip": copy})


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
