"""The page in a real browser: phone and desktop, light and dark, with and without script.

Each test puts a script of its own at the end of a copy of the page, lets headless Chromium run
it, and reads the JSON that it leaves in the document.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

import needs
from factory import QUICK, make_cohort, make_ledger, make_people, make_tier

from xpeft.io import write_json
from xpeft.report.html import make_report

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
DARK = "--blink-settings=preferredColorScheme=0"
LIGHT = "--blink-settings=preferredColorScheme=1"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("browser") / "results"
    make_tier(root / "small", tasks=("glue/cola", "glue/wnli"), variants=("norm-none",))
    make_tier(root / "quick", tier="quick", tasks=QUICK[:1], seeds=2)
    people = make_people("huffpost", 24, ("food & drink", "science & technology", "politics"))
    make_cohort(root / "quick", tier="quick", people=people, seeds=2)
    for tier in ("small", "quick"):
        write_json(root / tier / "ledger.json", make_ledger())
    return make_report([root / "small", root / "quick"], figures="figures", tables="tables")


def browse(
    page: str, script: str, folder: Path, *flags: str, width: int = 1280, height: int = 900
) -> Any:
    """Run `script`, a function body that returns a value, in the page; returns that value.

    The page is shown in a frame of the given size, as narrow as a phone is.
    """
    program = needs.chromium()
    probe = (
        "<script>addEventListener('load', async () => { let value; try { "
        f"value = await (async () => {{ {script} }})(); }} "
        "catch (error) { value = 'error: ' + error; }"
        "parent.postMessage(JSON.stringify(value), '*'); });</script>"
    )
    (folder / "page.html").write_text(page.replace("</body>", probe + "</body>"))
    (folder / "frame.html").write_text(
        "<!doctype html><body style='margin:0'>"
        f"<iframe src='page.html' style='border:0;width:{width}px;height:{height}px'></iframe>"
        "<pre id='found'>nothing</pre><script>addEventListener('message', (event) => "
        "{ document.getElementById('found').textContent = event.data; });</script></body>"
    )
    run = subprocess.run(
        [
            str(program),
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1400,1000",
            "--virtual-time-budget=20000",
            *flags,
            "--dump-dom",
            (folder / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', run.stdout, re.S)
    assert found, run.stdout[-2000:]
    value = json.loads(html.unescape(found.group(1)))
    assert not (isinstance(value, str) and value.startswith("error: ")), value
    return value


LAYOUT = """
  const small = [];
  for (const text of document.querySelectorAll("figure svg text")) {
    const svg = text.closest("svg");
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const size = parseFloat(getComputedStyle(text).fontSize) * scale;
    if (size < 8.9) small.push([text.textContent, size]);
  }
  const over = [];
  for (const svg of document.querySelectorAll("figure svg")) {
    const edge = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll("text")].filter((t) => t.textContent.trim())
      .map((t) => [t.textContent, t.getBoundingClientRect()]);
    boxes.forEach(([words, a], i) => {
      if (a.left < edge.left - 2 || a.right > edge.right + 2) over.push([words, "outside"]);
      for (const [other, b] of boxes.slice(i + 1)) {
        const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (x > 2 && y > 3) over.push([words, other]);
      }
    });
  }
  const wide = [...document.querySelectorAll("body *")].filter((node) =>
    !node.closest(".scroll, svg, pre, dialog, .skip") &&
    node.getBoundingClientRect().right > innerWidth + 1).map((node) => node.outerHTML.slice(0, 80));
  return {width: innerWidth, scroll: document.documentElement.scrollWidth, small, over, wide,
          figures: document.querySelectorAll("figure svg").length};
"""


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_leaves_the_screen_and_figures_stay_legible(
    page: str, tmp_path: Path, width: int
) -> None:
    found = browse(page, LAYOUT, tmp_path, width=width)
    assert found["width"] == width
    assert found["scroll"] <= width
    assert found["wide"] == []
    assert found["figures"] > 8
    assert found["over"] == []
    if width >= 390:
        assert found["small"] == []


CONTRAST = """
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const colour = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = colour(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > 0.99) return found;
    }
    return [255, 255, 255];
  };
  for (const details of document.querySelectorAll("details")) details.open = true;
  const bad = [];
  const seen = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim()) continue;
    if (node.closest("script, style, title, dialog")) continue;
    if (node.closest("svg") && node.closest("#method-figure_1")) continue; // on coloured shapes
    const style = getComputedStyle(node);
    const ink = colour(node.closest("svg") ? style.fill : style.color);
    const [a, b] = [luminance(ink), luminance(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen.add(style.color);
    if (ratio < 4.5) bad.push([node.textContent.slice(0, 40), ink, ratio]);
  }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return {bad, dark, page: luminance(behind(document.body)), colours: seen.size};
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(page: str, tmp_path: Path, scheme: str) -> None:
    found = browse(page, CONTRAST, tmp_path, DARK if scheme == "dark" else LIGHT)
    assert found["dark"] == (scheme == "dark")
    assert (found["page"] < 0.05) == (scheme == "dark")
    assert found["bad"] == []
    assert found["colours"] > 4


CLICKS = """
  const dialog = document.getElementById("dialog");
  const shown = [];
  const links = [...document.querySelectorAll("#small ~ * a.num")];
  for (const link of links) {
    const before = location.hash;
    link.click();
    const pre = dialog.querySelector("pre.json");
    shown.push({
      text: link.textContent, href: link.getAttribute("href"), open: dialog.open,
      title: document.getElementById("dialog-title").textContent,
      score: pre && JSON.parse(pre.textContent).result.score, jumped: location.hash !== before,
    });
    document.getElementById("dialog-close").click();
    if (dialog.open) throw new Error("the dialog did not close");
  }
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  return {shown, unique: ids.length === new Set(ids).size};
"""


def test_a_score_shows_its_record(page: str, tmp_path: Path) -> None:
    found = browse(page, CLICKS, tmp_path)
    assert len(found["shown"]) > 30
    assert found["unique"]
    records = [item for item in found["shown"] if item["href"].startswith("#r-")]
    assert len(records) == 2 * 4 * 3
    for item in found["shown"]:
        assert item["open"]
        assert item["title"]
        assert not item["jumped"]
    for item in records:
        assert f"{100 * item['score']:.1f}".replace("-", "\N{MINUS SIGN}") == item["text"]
        assert "seed" in item["title"]


def test_without_script_links_lead_to_the_record(page: str, tmp_path: Path) -> None:
    """The page's own script is taken out; the browser follows the link by itself."""
    start = page.rindex("<script>")
    plain = page[:start] + page[page.index("</script>", start) + len("</script>") :]
    script = """
      const link = document.querySelector('a.num[href^="#r-small"]');
      link.click();
      await new Promise((done) => setTimeout(done, 500));
      const target = document.getElementById(link.getAttribute("href").slice(1));
      const summary = target.querySelector("summary");
      summary.click();
      const pre = target.querySelector("pre");
      return {hash: location.hash, href: link.getAttribute("href"), open: target.open,
              tall: pre.getBoundingClientRect().height, seen: Math.abs(
                target.getBoundingClientRect().top) < innerHeight,
              target: target.matches(":target")};
    """
    found = browse(plain, script, tmp_path, "--force-prefers-reduced-motion")
    assert found["hash"] == found["href"]
    assert found["open"] and found["target"] and found["seen"]
    assert found["tall"] > 100


def test_the_page_asks_for_nothing(page: str, tmp_path: Path) -> None:
    """Without its own policy, which would stop requests before they are counted."""
    free = re.sub(r"<meta http-equiv=.Content-Security-Policy.[^>]*>", "", page)
    script = """
      await new Promise((done) => setTimeout(done, 500));
      return performance.getEntriesByType("resource").map((entry) => entry.name);
    """
    assert browse(free, script, tmp_path) == []
    asking = free.replace("</body>", "<img src='http://127.0.0.1:9/x.png' alt=''></body>")
    assert browse(asking, script, tmp_path) == ["http://127.0.0.1:9/x.png"]


def test_the_policy_of_the_page_stops_requests(page: str, tmp_path: Path) -> None:
    script = """
      const stopped = new Promise((done) => addEventListener("securitypolicyviolation",
        (event) => done(event.violatedDirective)));
      const image = document.createElement("img");
      image.src = "http://127.0.0.1:9/x.png";
      document.body.append(image);
      return Promise.race([stopped, new Promise((done) => setTimeout(done, 3000))]);
    """
    assert browse(page, script, tmp_path) == "img-src"
