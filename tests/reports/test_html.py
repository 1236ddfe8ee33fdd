"""index.html: every section, nothing from the network, nothing unescaped, small, and clean in a browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import fake
import pytest
from browser import needs_browser, open_offline

from tetrasim.reports.document import document
from tetrasim.reports.formats import index_html
from tetrasim.reports.formats.index_html import SECTIONS

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class _Page(HTMLParser):
    """Text by section, tags used, and attributes that would load something."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: dict[str, str] = {}
        self.tags: list[str] = []
        self.loads: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        if tag == "section":
            self._inside = named.get("id") or ""
            self.sections[self._inside] = ""
        self.loads += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith(("#", "data:"))]

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.sections[self._inside] += data


def read(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    return page


def page_of(*presets: str) -> str:
    return index_html.render(
        document(tuple(fake.result(p, validated=i % 2 == 0) for i, p in enumerate(presets)))
    )


def test_every_section_is_there_and_says_something() -> None:
    page = read(page_of("gpu/t4", "pim/aim", "cpu/host"))
    assert tuple(page.sections) == tuple(name for name, _ in SECTIONS)
    for name, text in page.sections.items():
        if name != "layers":
            assert "gpu/t4" in text, name
    assert page.sections["time"].count("100.0") >= 3
    assert "unvalidated" in page.sections["headline"]
    assert "tetrasim run gpt2-small" in page.sections["provenance"]


def test_decompositions_on_the_page_sum_to_100() -> None:
    html = page_of("gpu/t4", "pim/aim")
    bars = re.findall(r'<div class="stack".*?</div>', html, flags=re.S)
    assert len(bars) >= 12
    for bar in bars:
        widths = [float(w) for w in re.findall(r"width:([0-9.]+)%", bar)]
        assert sum(widths) <= 100.02
    tables = re.findall(r"<tbody>(?:(?!</tbody>).)*?<tr class=\"total\">", html, flags=re.S)
    assert len(tables) == 4  # time and energy of two targets
    for table in tables:
        shown = [float(x) for x in re.findall(r'<td class="n">([0-9.]+)</td></tr>', table)]
        assert sum(shown) == pytest.approx(100.0, abs=1e-9)


def test_nothing_comes_from_the_network() -> None:
    html = page_of("gpu/t4", "pim/aim")
    assert read(html).loads == []
    assert not re.search(r"https?://|@import|url\(", html)


def test_names_of_a_model_stay_text() -> None:
    result = fake.result()
    ops = (replace(result.ops[0], module=HOSTILE, node=HOSTILE, shape=HOSTILE), *result.ops[1:])
    html = index_html.render(
        document(
            (replace(result, model=HOSTILE, title=HOSTILE, ops=ops, mapping_note=HOSTILE, preset=HOSTILE),)
        )
    )
    assert "<img" not in html
    assert html.count("<script") == html.count("</script>") == 2
    data = re.search(r'<script type="application/json" id="ops-data">(.*?)</script>', html, flags=re.S)
    assert data is not None
    assert HOSTILE in json.loads(data[1])["strings"]


def test_a_large_model_on_four_targets_stays_below_a_megabyte() -> None:
    results = tuple(fake.result(f"gpu/x{i}", op_count=3000) for i in range(4))
    html = index_html.render(document(results))
    assert len(html.encode()) < 1_000_000
    assert "rows with the smallest share" in html


def test_the_same_results_give_the_same_page() -> None:
    assert page_of("gpu/t4", "pim/aim") == page_of("gpu/t4", "pim/aim")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_opens_it_offline_without_a_console_error(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "index.html").write_text(page_of("gpu/t4", "pim/aim"), encoding="utf-8")
    dom, console = open_offline(tmp_path / "index.html", tmp_path / "profile", dark=scheme == "dark")
    page = read(dom)
    assert console == []
    assert tuple(page.sections) == tuple(name for name, _ in SECTIONS)
    assert f'data-theme="{scheme}"' in dom
    assert "48 of 48 rows" in page.sections["layers"]  # drawn by the script
    assert "block_" not in page.sections["layers"]
    assert page.tags.count("svg") >= 6
