"""Every setting. Environment variables are read here, once, and nowhere else."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from runtime_site.env import (
    database,
    env_bool,
    env_choice,
    env_int,
    env_list,
    env_pairs,
    env_paths,
    env_str,
    env_url,
)
from runtime_site.secret_key import kept_key

BASE_DIR = Path(__file__).resolve().parent.parent
# manage.py, templates and static files: beside the packages in a checkout; an installed wheel
# has a folder for them.
SHARE_DIR = BASE_DIR / "holdfast_share" if (BASE_DIR / "holdfast_share").is_dir() else BASE_DIR

# -- where it runs ---------------------------------------------------------------------------

HOST = env_str("HOST", "127.0.0.1")
PORT = env_int("PORT", 8000, low=1, high=65535)
DATA_DIR = Path(env_str("DATA_DIR", str(BASE_DIR / "data"))).expanduser().absolute()
ARTIFACTS_DIR = DATA_DIR / "artifacts"
WORKSPACES_DIR = DATA_DIR / "workspaces"
SNAPSHOTS_DIR = DATA_DIR / "snapshots"
DEBUG = env_bool("DEBUG", False)
SECRET_KEY = env_str("SECRET_KEY") or kept_key(DATA_DIR / "secret_key")
SECRET_KEY_FALLBACKS = env_list("SECRET_KEY_FALLBACKS")  # earlier ones: open what they sealed

# The address people use, where a proxy that ends TLS stands in front.
PUBLIC_URL = env_url("PUBLIC_URL", ("https", "http")).rstrip("/")
_shown_host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(
    HOST, f"[{HOST}]" if ":" in HOST else HOST
)
BASE_URL = PUBLIC_URL or f"http://{_shown_host}:{PORT}"
_behind_tls = PUBLIC_URL.startswith("https://")

_everywhere = {"0.0.0.0", "::", ""}
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
ALLOWED_HOSTS += [_shown_host] if HOST not in _everywhere else []
ALLOWED_HOSTS += [urlsplit(PUBLIC_URL).hostname or ""] if PUBLIC_URL else []
ALLOWED_HOSTS += env_list("ALLOWED_HOSTS")
ALLOWED_HOSTS = list(dict.fromkeys(ALLOWED_HOSTS))

# -- how it behaves --------------------------------------------------------------------------

DEMO = env_bool("DEMO", True)
ALLOW_COMMANDS = env_bool("ALLOW_COMMANDS", False)
ALLOW_NETWORK = env_bool("ALLOW_NETWORK", False)
COMMAND_ENV = env_list("COMMAND_ENV")  # names of variables that commands may see as well
# Which variable of the workers' environment may go as a key to which address, for `llm` steps.
MODEL_KEYS = env_pairs("MODEL_KEYS")
MODEL_ENDPOINTS = env_list("MODEL_ENDPOINTS")  # the only addresses `llm` steps ask; none: any
WORKFLOWS_DIR = env_str("WORKFLOWS_DIR")  # a folder of modules with Python workflows
# What commands see besides the system and their own folder: (folder, whether they may write).
COMMAND_PATHS = env_paths("COMMAND_PATHS", [Path(tempfile.gettempdir()).absolute()])
COMMAND_MEMORY_MB = env_int("COMMAND_MEMORY_MB", 0, low=0, high=2**24)  # 0: no limit
COMMAND_PROCESSES = env_int("COMMAND_PROCESSES", 1024, low=0, high=2**22)
COMMAND_FILE_MB = env_int("COMMAND_FILE_MB", 8192, low=0, high=2**24)
COMMAND_SANDBOX = env_choice("COMMAND_SANDBOX", "auto", ("auto", "plain"))  # plain: no bubblewrap
BOOTSTRAP_TOKEN = env_str("BOOTSTRAP_TOKEN")
if BOOTSTRAP_TOKEN and len(BOOTSTRAP_TOKEN) < 32:
    raise ImproperlyConfigured(
        f"BOOTSTRAP_TOKEN has {len(BOOTSTRAP_TOKEN)} characters; a token needs at least 32."
    )
WORKERS = env_int("WORKERS", 2, low=0, high=64)  # built-in worker processes; 0 starts none
LEASE_SECONDS = env_int("LEASE_SECONDS", 60, low=2, high=3600)  # of the built-in workers
LEASE_EPOCH = env_int("LEASE_EPOCH", 0, low=0, high=10**9)  # raised after restoring a backup
SLICE_SECONDS = env_int("SLICE_SECONDS", 30, low=1, high=3600)  # then a card lets others go
SWEEP_SECONDS = 2.0
DISPATCH = True  # nudge the built-in workers when a card becomes claimable
STEP_TIMEOUT_MAX = 6 * 3600  # the longest that one command of a step may take
MAX_BODY_BYTES = 2 * 1024 * 1024
MAX_ARTIFACT_BYTES = 100 * 1024 * 1024
SLOW_BODY_SECONDS = env_int("SLOW_BODY_SECONDS", 25, low=1, high=600)  # then it is cut
HTTP_HANDLER = env_choice("HTTP_HANDLER", "onehop", ("onehop", "stock"))
HTTP_THREADS = env_int("HTTP_THREADS", 4, low=1, high=64)

# -- apps, one line from top to bottom: imports go one way -------------------------------------

INSTALLED_APPS = [
    "runtime_site.admin_config.HoldfastAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",  # the documentation page's own scripts: nothing from elsewhere
    "channels",
    "django_q",
    "django_htmx",
    "runtime_site",
    "workers",
    "checkpoints",
    "boards",
    "goals",
    "events",
]

MIDDLEWARE = [
    "runtime_site.middleware.SafetyHeaders",
    "runtime_site.middleware.BodyRules",
    "django.middleware.security.SecurityMiddleware",
    "runtime_site.static_files.StaticFiles",
    "runtime_site.middleware.Compressed",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "runtime_site.middleware.Language",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "runtime_site.middleware.Problems",
]

ROOT_URLCONF = "runtime_site.urls"
ASGI_APPLICATION = "runtime_site.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEST_RUNNER = "django.test.runner.DiscoverRunner"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [SHARE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# -- the store -------------------------------------------------------------------------------

# FULL: an answered write survives power loss. IMMEDIATE: a transaction that reads first and
# writes later fails at once under WAL instead of waiting its turn.
SQLITE_FILE = DATA_DIR / "holdfast.sqlite3"
SQLITE_OPTIONS = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": (
        "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;"
        "PRAGMA temp_store=MEMORY;PRAGMA cache_size=-8000"
    ),
}
DATABASES = {
    "default": {
        **database(env_str("DATABASE_URL"), SQLITE_FILE, SQLITE_OPTIONS),
        # Persistent only in the request threads, which set this for themselves (onehop.py):
        # under ASGI every other thread is short-lived and would leak its connection.
        "CONN_MAX_AGE": 0,
    }
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file, not memory: the tail, the queue's wake-up and threads open it by name.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}

REDIS_URL = env_url("REDIS_URL", ("redis", "rediss"))
CHANNEL_LAYERS = {
    "default": (
        {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [REDIS_URL], "prefix": "holdfast"},
        }
        if REDIS_URL
        else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    )
}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

# The queue carries wake-ups, never truth: a nudge that is lost or late costs one sweep. So
# nothing is kept or tried again, and its clocks only have to exceed our own: a nudge may run
# one whole command, whose own timeout ends it.
_q_timeout = STEP_TIMEOUT_MAX + 600
Q_CLUSTER: dict[str, Any] = {
    "name": "holdfast",
    "orm": "default",
    "broker_class": "workers.qbroker.WakingBroker",
    "workers": max(WORKERS, 1),
    "queue_limit": max(WORKERS, 1),
    "timeout": _q_timeout,
    "retry": 2 * _q_timeout + 600,
    "max_attempts": 1,
    "ack_failures": True,
    "save_limit": -1,
    "recycle": 500,
    "bulk": 1,
    "guard_cycle": 1,
    "scheduler": False,
    "catch_up": False,
}

# -- what goes out ---------------------------------------------------------------------------

# Without EMAIL_URL no e-mail leaves, and the page of the rules says so.
# smtp+tls begins in the clear and turns to TLS, smtps is TLS from the first byte.
EMAIL_URL = env_url("EMAIL_URL", ("smtp", "smtp+tls", "smtps"))
_mail = urlsplit(EMAIL_URL)
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_URL else 'dummy'}.EmailBackend"
EMAIL_HOST = _mail.hostname or ""
EMAIL_PORT = _mail.port or {"smtps": 465, "smtp+tls": 587}.get(_mail.scheme, 25)
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = unquote(_mail.username or ""), unquote(_mail.password or "")
EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.scheme == "smtp+tls", _mail.scheme == "smtps"
EMAIL_TIMEOUT = 15
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env_str("EMAIL_FROM", "Holdfast <holdfast@localhost>")
ALLOW_PRIVATE_WEBHOOKS = env_bool("ALLOW_PRIVATE_WEBHOOKS", False)
ALLOW_PRIVATE_PROBES = env_bool("ALLOW_PRIVATE_PROBES", False)  # of goals' criteria

# -- who comes in ----------------------------------------------------------------------------

PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
    )
]
LOGIN_URL = "signin"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "signin"
SIGNIN_LINK_SECONDS = 15 * 60

# Browsers keep cookies per host, not per port: two installations on one machine must not
# sign each other out, so the name follows the key they sign with.
SESSION_COOKIE_NAME = f"holdfast_{hashlib.sha256(SECRET_KEY.encode()).hexdigest()[:8]}"
SESSION_COOKIE_AGE = 14 * 24 * 3600
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _behind_tls
CSRF_FAILURE_VIEW = "runtime_site.problems.csrf_failure"
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _behind_tls else None
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if _behind_tls else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = False
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# The proxy redirects to https (W008); subdomains and preload lists are its owner's (W005, W021).
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021"]
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

# -- the REST API ----------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "boards.authentication.TokenAuthentication",
        "boards.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["kernel.parsing.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "runtime_site.problems.handle",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "runtime_site.negotiation.JSONAlways",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Holdfast",
    "DESCRIPTION": "The runtime layer for AI agents: goals, cards, leases, steps, checkpoints.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "ColumnKindEnum": "boards.models.Column.Kind",
        "DiscoveryKindEnum": "goals.models.Discovery.Kind",
        "GoalStatusEnum": "goals.models.Goal.Status",
        "StepOutcomeEnum": ["succeeded", "failed"],
    },
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "runtime_site.openapi.finish",
    ],
}

# -- words, time, files ----------------------------------------------------------------------

LANGUAGE_CODE = "en"
USE_I18N = True
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [SHARE_DIR / "locale"]
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
STATICFILES_DIRS = [SHARE_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # serves static/ as it is: there is no collect step
WHITENOISE_MAX_AGE = 0  # of names without a version; see runtime_site/static_files.py
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "runtime_site.static_files.VersionedStorage"},
}

LOG_LEVEL = env_choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "runtime_site.logs.LineFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # Named, because django-q leaves its level to the root as soon as that has a handler.
        "django-q": {"level": LOG_LEVEL},
        "django.request": {"level": "ERROR"},  # a 4xx is the client's news
        "django.security": {"level": "ERROR"},
        "django.server": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "asyncio": {"level": "WARNING"},
        "redis": {"level": "WARNING"},
        "psycopg": {"level": "WARNING"},
        "httpx2": {"level": "WARNING"},  # a line for each request to a model
    },
}
