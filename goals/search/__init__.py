"""Everything that was ever planned, tried, said, decided or learnt, found by its words.

    sources.py    which tables are looked through, as each app registers its own
    keeping.py    the triggers that keep the index, and what it holds of earlier days
    language.py   what a person or agent may type
    finding.py    what is found, best first, as far as one may see it
    marking.py    the piece of a text around what was found

The index is the store's own: FTS5 on SQLite, a tsvector under GIN on PostgreSQL. Database
triggers write it in the transaction of the change, so that no path past Python is missed and
nothing that was rolled back is found.
"""
