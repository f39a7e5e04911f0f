"""How alike two approaches are found to be, over a table of pairs that people have judged."""

from __future__ import annotations

from goals import likeness

#: One approach in two people's words.
SAME = [
    ("migrate the ledger with a background job", "run the ledger migration in background jobs"),
    ("cache parsed configs in parse_config", "caching what parseConfig returns"),
    ("retryPolicy with exponential backoff", "use a retry_policy that backs off exponentially"),
    ("copy rows with a database trigger", "database triggers that copy each row"),
    ("hold advisory locks around each batch", "advisory locking of every batch"),
    ("switch to asyncio TaskGroup", "asyncio task groups instead of gather"),
    ("pin urllib3 below 2", "pinning urllib3 < 2 in requirements"),
    ("rewrite the tokenizer with regular expressions", "regular expression based tokenizer"),
    ("denormalise the totals into a column", "denormalised totals column"),
    ("stream the CSV instead of loading it", "streaming csv rather than loading everything"),
    ("bump the connection pool size", "larger connection pools"),
    ("monkeypatch time.sleep in tests", "monkey-patching time.sleep for the tests"),
    ("increase the timeout of HttpClient", "raise http_client timeouts"),
    ("use a mutex around writeFile", "guard write_file by a mutex"),
    ("split OrderService into two classes", "splitting order_service in two"),
    ("vectorise the loop with numpy", "numpy vectorisation of the loop"),
    ("disable the flaky integration test", "disabling flaky integration tests"),
    ("serialise writes through one queue", "a single queue that serialises writes"),
    ("upgrade Django to 5.2", "upgrading to django 5.2"),
    ("parse dates with dateutil", "dateutil date parsing"),
    ("memoise get_user with lru_cache", "memoising getUser through an lru cache"),
    ("write the file atomically with os.replace", "atomic file writes by os.replace"),
    ("batch inserts with bulk_create", "bulk_create in batches for the inserts"),
    ("lazy-load the plugin modules", "loading plugin modules lazily"),
    ("normalise paths before comparing", "compare normalised paths"),
    ("throttle the webhook deliveries", "throttled webhook delivery"),
    ("validate input with pydantic models", "pydantic model validation of the inputs"),
    ("compress responses with gzip", "gzip-compressed response bodies"),
]
#: Two approaches that share words.
OTHER = [
    ("copy rows with a database trigger", "drop the database and restore a dump"),
    ("cache parsed configs", "validate configs before parsing them"),
    ("hold advisory locks around each batch", "split each batch in two"),
    ("use a retry policy with backoff", "use a circuit breaker with a timeout"),
    ("pin urllib3 below 2", "pin requests to 2.31"),
    ("stream the CSV instead of loading it", "load the CSV with pandas"),
    ("rewrite the tokenizer with regular expressions", "write a parser by hand"),
    ("increase the timeout of HttpClient", "reuse one HttpClient for all calls"),
    ("add an index on created_at", "add a column created_by"),
    ("upgrade Django to 5.2", "downgrade psycopg to 3.1"),
    ("run the tests in parallel", "run the migration in parallel"),
    ("split OrderService into two classes", "rename OrderService"),
    ("a table of its own", "a column of its own"),
    ("use a mutex around writeFile", "use a temporary file and rename it"),
    ("serialise writes through one queue", "batch reads through one cache"),
    ("disable the flaky integration test", "fix the clock in the unit test"),
    ("migrate the ledger with a background job", "archive the ledger by hand"),
    ("monkeypatch time.sleep in tests", "use a fake clock in tests"),
    ("parse dates with dateutil", "store dates as integers"),
    ("bump the connection pool size", "close each connection after use"),
    ("memoise get_user with lru_cache", "delete get_user altogether"),
    ("write the file atomically with os.replace", "read the file in chunks"),
    ("batch inserts with bulk_create", "retry inserts one by one"),
    ("normalise paths before comparing", "hash file contents for comparing"),
    ("throttle the webhook deliveries", "sign the webhook payloads"),
    ("validate input with pydantic models", "train models on more input"),
    ("compress responses with gzip", "cache responses in redis"),
    ("lazy-load the plugin modules", "remove the plugin system"),
]
#: The same idea in other words, as a worker that comes later would put it.
AGAIN = [
    ("Wrap the importer in one transaction per file", "one transaction around each imported file"),
    ("Poll the status endpoint every five seconds", "polling of the status endpoint every 5 s"),
    (
        "Replace the regex date parser with datetime.fromisoformat",
        "parse dates by datetime.fromisoformat, not by regex",
    ),
    ("Move thumbnail generation to a Celery task", "generate thumbnails in a celery task"),
    (
        "Use SELECT ... FOR UPDATE SKIP LOCKED for the queue",
        "queue with skip locked selects for update",
    ),
    (
        "Shard the integration suite over four runners",
        "four runners that each take a shard of integration tests",
    ),
    (
        "Vendor the protobuf files instead of generating them",
        "vendored protobuf files, no generation at build",
    ),
    ("Debounce the search input by 300 ms", "search input debounced for 300 ms"),
    ("Mock S3 with moto in the upload tests", "upload tests that mock s3 through moto"),
    (
        "Set PRAGMA busy_timeout to 5000 on each SQLite connection",
        "sqlite connections get a busy_timeout pragma of 5 s",
    ),
]
#: Another choice in the words of the one that failed.
INSTEAD = [
    (
        "Retry the webhook with exponential backoff",
        "Sign the webhook with an exponential token expiry",
    ),
    (
        "Cache the exchange rates in Redis for an hour",
        "Load the exchange rates from the ECB for the last hour",
    ),
    (
        "Set PRAGMA busy_timeout to 5000 on each SQLite connection",
        "Set PRAGMA journal_mode to WAL on each SQLite connection",
    ),
    ("Add an index on orders.customer_id", "Add an index on orders.created_at"),
    ("Upgrade Node from 18 to 20", "Upgrade Node from 20 to 22"),
    ("Increase the worker timeout to 60 seconds", "Decrease the worker memory to 60 megabytes"),
    ("Use SELECT FOR UPDATE on the account row", "Use SELECT FOR SHARE on the account row"),
    ("Run the linter in a pre-commit hook", "Run the formatter in a pre-commit hook"),
    ("Split the migration into schema and data", "Squash the migration of schema and data"),
    ("Pin numpy to 1.26", "Pin numpy to 2.1"),
    ("Disable the cache for logged-in users", "Enable the cache for logged-in users"),
    ("Write the parser with lark", "Write the parser with pyparsing"),
    ("Move the config from YAML to TOML", "Move the config from TOML to environment variables"),
    ("Lock the ledger row before the transfer", "Lock the transfer row before the ledger"),
    ("Read the file with mmap in chunks of 1 MB", "Read the file line by line with mmap"),
]


def test_of_the_judged_pairs_most_are_found_and_next_to_none_wrongly() -> None:
    missed = [pair for pair in SAME if not likeness.alike(*pair)]
    wrong = [pair for pair in OTHER if likeness.alike(*pair)]
    assert len(missed) <= len(SAME) // 5, missed
    assert not wrong


def test_it_does_not_matter_which_of_two_is_asked_about() -> None:
    for one, other in [*SAME, *OTHER]:
        assert bool(likeness.alike(one, other)) == bool(likeness.alike(other, one))
        assert likeness.alike(one, one) == 1.0


def test_words_of_one_stem_and_the_parts_of_identifiers_are_told_as_one() -> None:
    for family in (
        "migrate migrates migrated migrating migration migrations",
        "retry retries retried retrying",
        "cache caches cached caching",
        "stop stops stopped stopping",
        "serialise serialize serialises serialising serialisation",
    ):
        assert len({likeness.stem(word) for word in family.split()}) == 1, family
    assert likeness.subject("HTTPClient.parseConfig") == likeness.subject(
        "http_client parse_config"
    )
    assert likeness.words("") == []


def test_no_other_choice_is_taken_for_the_one_that_failed_and_most_repetitions_are_known() -> None:
    def refused(failed: str, now: str) -> bool:
        return bool(likeness.alike(failed, now)) and not likeness.instead(failed, now)

    pairs = [*OTHER, *INSTEAD]
    wrong = [p for p in pairs if refused(*p) or refused(*reversed(p))]
    missed = [p for p in [*SAME, *AGAIN] if not refused(*p)]
    assert not wrong
    assert len(missed) <= len([*SAME, *AGAIN]) // 4, missed


def test_what_is_put_in_the_place_of_what_failed_is_said() -> None:
    assert likeness.instead("Pin numpy to 1.26", "Pin numpy to 2.1") == "2.1 instead of 1.26"
    assert likeness.instead("Write it with lark", "Write it with pyparsing") == (
        "pyparsing instead of lark"
    )
    assert likeness.instead("Run it without a cache", "Run it with a cache") == "not without"
    assert likeness.instead("from YAML to TOML", "from TOML to YAML") == "the other way round"
    title = "Writing the parser with lark is too slow on long files"
    again = "write the parser with lark and stream the tokens"
    assert likeness.instead(title, again, titled=True) == ""
    assert likeness.instead(title, title) == ""
