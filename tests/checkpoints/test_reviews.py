from __future__ import annotations

import pytest

from boards import cards, leases
from checkpoints import briefing, patches, reviews, selectors
from checkpoints.models import Checkpoint
from kernel.errors import Invalid
from tests.checkpoints.test_merging import Place
from tests.factories import claimed, now_is

pytestmark = pytest.mark.django_db

TEXT = "def add(a, b):\n    return a - b\n\n\ndef name():\n    return 'x'\n"


@pytest.fixture
def place(tmp_path, settings) -> Place:
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"
    return Place(tmp_path)


def remark(card, text="Add, don't subtract.", **where):
    where = {"checkpoint": 1, "path": "app.py", "side": "new", "line": 2} | where
    return reviews.remark(card.pk, "user:ann", text, **where)


class TestRemark:
    def test_the_next_worker_is_told_with_file_line_and_its_text(self, place):
        card = place.worked({"app.py": TEXT})
        made = remark(card)
        assert made.place["text"] == "    return a - b"
        cards.reject(card.pk, "user:ann", "See the remarks.")
        told = briefing.build(now_is(card)).markdown
        assert "A reviewer, on line 2 of “app.py”" in told
        assert "return a - b" in told
        assert "Add, don't subtract." in told
        assert "See the remarks." in told
        reviews.resolve(made, "user:ann", True)
        assert "Add, don't subtract." not in briefing.build(now_is(card)).markdown
        reviews.resolve(made, "user:ann", False)
        assert "Add, don't subtract." in briefing.build(now_is(card)).markdown

    def test_many_are_counted_and_what_is_cut_can_be_fetched(self, place):
        card = place.worked({"app.py": TEXT})
        for n in range(60):
            remark(card, f"Remark {n}: " + "explain this " * 40)
        told = briefing.build(card, max_tokens=2000)
        assert told.tokens <= 2000
        assert "GET /cards/" in told.markdown
        assert "Remark 59" in told.markdown

    @pytest.mark.parametrize(
        ("where", "name"),
        [
            ({"line": 8}, "line"),
            ({"path": "gone.py"}, "path"),
            ({"path": "../app.py"}, "path"),
            ({"checkpoint": 9}, "checkpoint"),
            ({"side": "base"}, "path"),
        ],
    )
    def test_what_is_not_there_can_not_be_remarked_on(self, place, where, name):
        card = place.worked({"app.py": TEXT})
        with pytest.raises(Invalid) as refused:
            remark(card, **where)
        assert name in refused.value.errors

    def test_it_stands_at_its_line_until_the_file_changes(self, place):
        card = place.worked({"app.py": TEXT, "other.py": "1\n"})
        remark(card)
        remark(card, "On the old one.", side="base", path="README.md", line=1)
        cards.reject(card.pk, "user:ann", "Again.")
        attempt = claimed(now_is(card))
        place.changes(attempt, {"other.py": "2\n"})
        leases.complete(attempt.pk, "Done.")
        shown = selectors.compared(now_is(card), "", "")
        assert (shown.found.new.number, shown.whole, shown.open_remarks) == (2, True, 2)
        (app,) = [f for f in shown.files if f.change.path == "app.py"]
        assert [(line.new, len(on)) for line, on in app.rows if on] == [(2, 1)]
        assert [m.path for m in shown.elsewhere] == ["README.md"]
        cards.reject(card.pk, "user:ann", "Again.")
        attempt = claimed(now_is(card))
        place.changes(attempt, {"app.py": TEXT.replace("-", "+")})
        (app,) = selectors.compared(now_is(card), "", "").files
        assert [(line.old, len(on)) for line, on in app.rows if on and line.look == "x"] == [(2, 1)]
        shown = selectors.compared(now_is(card), "3", "base")
        (app,) = [f for f in shown.files if f.change.path == "app.py"]
        assert [m.message.text for m in app.outdated] == ["Add, don't subtract."]

    def test_only_the_newest_checkpoint_is_compared_whole_in_review(self, place):
        card = place.worked({"app.py": TEXT})
        assert selectors.compared(card, "", "").whole
        assert not selectors.compared(card, "1", "").whole
        assert selectors.compared(card, "1", "base").whole
        assert Checkpoint.objects.count() == 1


PATCH = """diff --git a/app.py b/app.py
--- a/app.py
+++ b/app.py
@@ -1,4 +1,5 @@ def add
 def add(a, b):
-    return a - b
-    # never
+    return a + b
+    "<b>&"
+    x = '''
 done()
"""


class TestReading:
    def test_lines_have_their_numbers_and_changed_words_are_marked(self):
        lines, left = patches.read(PATCH, "app.py")
        assert left == 0
        assert [(line.look, line.old, line.new) for line in lines] == [
            ("h", None, None),
            ("c", 1, 1),
            ("x", 2, None),
            ("x", 3, None),
            ("a", None, 2),
            ("a", None, 3),
            ("a", None, 4),
            ("c", 4, 5),
        ]
        assert "<mark>+</mark>" in lines[4].html
        assert "<mark>-</mark>" in lines[2].html
        assert '<span class="kw">return</span>' in lines[4].html
        assert '<span class="cm"># never</span>' in lines[3].html

    def test_what_a_file_says_is_escaped(self):
        lines, _ = patches.read(PATCH, "app.py")
        assert "&lt;b&gt;&amp;" in lines[5].html
        plain, _ = patches.read(PATCH, "unknown.qqq")
        assert plain[5].html == "    &quot;&lt;b&gt;&amp;&quot;"

    def test_side_by_side_what_replaced_what_is_in_one_row(self):
        lines, _ = patches.read(PATCH, "app.py")
        pairs = [(p.left and p.left.old, p.right and p.right.new) for p in patches.beside(lines)]
        assert pairs == [(None, None), (1, 1), (2, 2), (3, 3), (None, 4), (4, 5)]

    def test_a_long_diff_is_cut_and_what_is_left_out_counted(self):
        patch = "@@ -0,0 +1,900 @@\n" + "\n".join(f"+line {n}" for n in range(900))
        lines, left = patches.read(patch, "a.txt")
        assert (len(lines), left) == (400, 501)
