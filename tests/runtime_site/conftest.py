from __future__ import annotations

import os

# These bring their own SQLite store or need none: once is enough, whatever the run is on.
collect_ignore = (
    ["test_runtime.py", "test_settings.py", "test_env.py", "test_bodies.py", "test_pressure.py"]
    if os.environ.get("DATABASE_URL")
    else []
)
