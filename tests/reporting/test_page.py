"""The page of the report as a file: what it may load, and how large it grows."""

import base64
import hashlib
from html.parser import HTMLParser

from advfool.reporting import encoding as gallery


def test_the_page_stays_within_its_budget_whatever_the_number_of_runs():
    sizes = [(224, 224)] * 26
    for runs in (1, 10, 100):
        side = gallery.fitting_side(sizes * runs, gallery.SIDES, gallery.MAPS_BUDGET)
        assert side * side * len(sizes) * runs <= gallery.MAPS_BUDGET
    assert gallery.fitting_side(sizes, gallery.SIDES, gallery.MAPS_BUDGET) == 224


class Outline(HTMLParser):
    """What the page would load, its scripts, and its controls without a name."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.scripts, self.pictures, self.policy, self.script = [], [], [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.loads += [attrs[key] for key in ("src", "srcset", "data", "action") if attrs.get(key)]
        if tag == "link":
            self.loads.append(attrs["href"])
        if attrs.get("http-equiv") == "Content-Security-Policy":
            self.policy = attrs["content"]
        if tag == "script":
            self.script = attrs.get("type", "")

    def handle_data(self, data):
        if self.script is not None:
            self.scripts.append((self.script, data))

    def handle_endtag(self, tag):
        if tag == "script":
            self.script = None


def test_the_page_loads_nothing_and_only_its_own_scripts_may_run(sweep):
    outline = Outline((sweep / "report.html").read_text())
    assert outline.loads == ["data:,"]
    assert "default-src 'none'" in outline.policy
    assert "unsafe-eval" not in outline.policy
    scripts = [text for kind, text in outline.scripts if not kind]
    for script in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in outline.policy
    assert len(scripts) == 2
    assert "'unsafe-inline'" not in outline.policy.partition("script-src")[2].partition(";")[0]
