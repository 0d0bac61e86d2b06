"""The page in a real browser: it draws, sorts, filters, asks nobody for anything, shuts nobody out."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.browser import PATIENCE, Seen
from lab.pages import EVERY, HOSTILE, hostile_records, own, store
from lab.records import conversation, everything, record

from edgebench.profiles import references
from edgebench.store.results import Store
from edgebench.views.html import page

Look = Callable[..., Seen]

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True}
SCREENS = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": PHONE,
    "dark phone": {**PHONE, "color_scheme": "dark"},
}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with every figure, an earlier measurement and the reference."""
    earlier = record(device="synthetic-laptop", backend="vulkan", options={"ctx": 2048, "threads": 8}, started="2025")
    records = [*everything(), earlier, own()]
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page(records, reference=references.load("edge-2023")), "utf-8")
    return path.as_uri()


def assert_accessible(seen: Seen) -> None:
    from axe_playwright_python.sync_playwright import Axe  # not installed for the light tests

    found = Axe().run(seen.page)
    assert found.violations_count == 0, found.generate_report()


def column(seen: Seen, index: int) -> list[str]:
    """The visible cells of a column of the first kind of work."""
    script = """index => [...document.querySelector('#results tbody.rows').rows]
        .filter(row => !row.hidden).map(row => row.cells[index].dataset.value ?? row.cells[index].textContent.trim())"""
    found: list[str] = seen.page.evaluate(script, index)
    return found


def shown(seen: Seen) -> int:
    count: int = seen.page.locator("#results tbody.rows:not([hidden]) tr:not([hidden])").count()
    return count


@pytest.mark.parametrize("screen", SCREENS)
def test_every_figure_draws_quietly_from_the_file_alone(full: str, look: Look, screen: str) -> None:
    seen = look(full, **SCREENS[screen])
    seen.drawn()
    assert seen.said == []
    assert seen.asked == [full]
    ids = seen.page.eval_on_selector_all(".figure", "sections => sections.map(s => s.id.slice(2))")
    assert set(ids) == EVERY
    marks = """plots => plots.map(plot => [plot.dataset.spec, plot.querySelectorAll(
        'svg .mark-rect path, svg .mark-line path, svg .mark-symbol path').length])"""
    for name, count in seen.page.eval_on_selector_all(".plot", marks):
        assert count > 0, name
    width, room = seen.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= room


@pytest.mark.parametrize("screen", ["light", "dark", "phone"])
def test_nobody_is_shut_out(full: str, look: Look, screen: str) -> None:
    seen = look(full, **SCREENS[screen])
    seen.drawn()
    seen.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert_accessible(seen)


def test_single_rounds_and_odd_numbers_are_drawn_quietly_too(tmp_path: Path, look: Look) -> None:
    path = tmp_path / "index.html"
    sweep = [record(options={"ctx": 2048, "threads": n}, rounds=1, metrics={"decode_tps": float(n)}) for n in (1, 2)]
    zero = record(device="z", metrics={"decode_tps": 0.0, "peak_footprint_b": 0.0, "mbu": 0.5}, rounds=1)
    talk = record(scenario="chat", rounds=1, turns=conversation(2), metrics={"decode_tps": 3.0, "mbu": 1.4})
    path.write_text(page([*sweep, zero, talk]), "utf-8")
    seen = look(path.as_uri())
    seen.drawn()
    assert seen.said == []
    assert_accessible(seen)


@pytest.mark.parametrize("screen", ["light", "phone"])
def test_no_name_is_too_long(tmp_path: Path, look: Look, screen: str) -> None:
    path = tmp_path / "index.html"
    long = "a-device-of-a-very-long-name" * 12
    path.write_text(page([record(device=f"{n}{long}", model=long) for n in range(3)]), "utf-8")
    seen = look(path.as_uri(), **SCREENS[screen])
    seen.drawn()
    width, room = seen.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= room
    rate = seen.page.locator("#results tbody.rows tr").first.locator("td.num").nth(2).bounding_box()
    assert rate
    assert rate["x"] + rate["width"] <= room  # and it is not pushed out of sight


@pytest.mark.parametrize("screen", ["light", "phone"])
def test_many_rounds_make_a_table_scroll_and_not_the_page(tmp_path: Path, look: Look, screen: str) -> None:
    path = tmp_path / "index.html"
    path.write_text(page([record(rounds=50, doubts=["steal"])]), "utf-8")
    seen = look(path.as_uri(), **SCREENS[screen])
    seen.drawn()
    seen.page.evaluate("document.querySelector('details.record').open = true")
    width, room = seen.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= room


def test_the_table_sorts_by_key_and_says_so(full: str, look: Look) -> None:
    seen = look(full)
    heading = seen.page.locator("#results").get_by_role("columnheader", name="Memory")
    heading.get_by_role("button").focus()
    seen.page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    numbers = [float(text) for text in column(seen, 3) if text]
    assert len(numbers) > 5
    assert numbers == sorted(numbers)
    assert column(seen, 3)[-1] == ""  # what wasn't measured stays at the end, whichever way
    seen.page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    numbers = [float(text) for text in column(seen, 3) if text]
    assert numbers == sorted(numbers, reverse=True)
    assert column(seen, 3)[-1] == ""
    seen.page.locator("#results").get_by_role("columnheader", name="Device").get_by_role("button").click()
    assert heading.get_attribute("aria-sort") is None
    assert column(seen, 0) == sorted(column(seen, 0))


def test_the_table_filters_and_counts(full: str, look: Look) -> None:
    seen = look(full)
    everyone = shown(seen)
    count = seen.page.locator("#count")
    seen.page.locator("#controls").get_by_label("Backend").select_option("metal")
    assert shown(seen) == 1
    assert count.inner_text().startswith("1 of ")
    seen.page.get_by_role("button", name="Clear").click()
    seen.page.wait_for_function("n => document.querySelector('#count').textContent.startsWith(`${n} of`)", arg=everyone)
    seen.page.get_by_label("Find").fill("phone throttled")
    assert shown(seen) == 2
    seen.page.get_by_label("without doubts").check()
    assert shown(seen) == 0
    seen.page.get_by_role("button", name="Clear").click()
    seen.page.wait_for_function("n => document.querySelector('#count').textContent.startsWith(`${n} of`)", arg=everyone)
    seen.page.get_by_label("earlier too").check()
    assert shown(seen) == everyone + 2
    assert count.inner_text() == f"{everyone + 2} of {everyone + 2} records shown"


def test_rows_and_figures_lead_to_their_record(full: str, look: Look) -> None:
    seen = look(full)
    seen.drawn()
    link = seen.page.locator("#results tbody.rows th a").first
    link.click()
    target = seen.page.locator(link.get_attribute("href") or "")
    assert target.get_attribute("open") is not None
    assert "edgebench run --device" in target.inner_text()
    seen.page.evaluate("history.replaceState(null, '', ' '); scrollTo(0, 0)")
    seen.page.locator("#f-decode svg .mark-rect path").first.click()
    seen.page.wait_for_function("location.hash.startsWith('#r-')")


def test_each_figure_has_a_table_that_leads_to_its_records(full: str, look: Look) -> None:
    seen = look(full)
    links = seen.page.eval_on_selector_all(
        "details.data th a", "links => links.map(a => !!document.getElementById(a.hash.slice(1)))"
    )
    assert len(links) > 20
    assert all(links)


def test_without_scripts_there_are_the_table_and_the_pictures(full: str, look: Look) -> None:
    seen = look(full, java_script_enabled=False)
    assert seen.page.locator("#results tbody.rows tr").count() > 20
    assert seen.page.locator(".figure svg").count() == seen.page.locator(".plot").count()
    assert not seen.page.locator("#controls").is_visible()
    assert seen.said == []


def test_on_paper_it_is_light_and_without_controls(full: str, look: Look) -> None:
    seen = look(full, color_scheme="dark")
    seen.drawn()
    dark = seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    seen.page.emulate_media(media="print")
    assert dark == "rgb(20, 24, 29)"
    assert seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert not seen.page.locator("#controls").is_visible()
    assert seen.page.locator(".plot svg").first.is_visible()
    more = seen.page.locator(".answer details")
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert more.get_attribute("open") is not None  # what is folded is part of the answer
    seen.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert more.get_attribute("open") is None


def test_hostile_names_and_logs_stay_text(tmp_path: Path, look: Look) -> None:
    path = tmp_path / "index.html"
    path.write_text(page(hostile_records()), "utf-8")
    for scripts in (True, False):
        seen = look(path.as_uri(), java_script_enabled=scripts)
        if scripts:
            seen.drawn()
            assert seen.page.evaluate("window.pwned") is None
            drawn = seen.page.locator("#f-decode svg").first.text_content() or ""
            assert HOSTILE[0] in drawn
            seen.page.locator("#f-decode svg .mark-rect path").first.hover()
            seen.page.locator("#vg-tooltip-element.visible").wait_for()
            assert seen.page.locator("#vg-tooltip-element img, #vg-tooltip-element script").count() == 0
        assert seen.said == []
        assert seen.asked == [path.as_uri()]
        body = seen.page.locator("body").inner_text() if scripts else seen.page.content()
        assert "pwned" in body
        assert seen.page.locator("main img, main iframe").count() == 0


def test_a_hundred_records_paint_within_a_second_of_work(tmp_path: Path, look: Look) -> None:
    """Scripts before the first paint are few; the benchmark holds the time itself."""
    path = tmp_path / "index.html"
    path.write_text(page([record(device=f"d{i}") for i in range(100)]), "utf-8")
    seen = look(path.as_uri())
    seen.page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
    painted = seen.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    seen.drawn()
    finished = seen.page.evaluate("performance.now()")
    assert painted < finished  # the table is there before the figures are


# --- served -----------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    path = store(tmp_path / "results.sqlite", [record(device="first")])
    command = [sys.executable, "-m", "edgebench", "report", "--serve", "--store", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip(), path
    process.terminate()
    process.communicate(timeout=PATIENCE / 1000)


def test_the_served_page_grows_and_stays_as_its_reader_left_it(served: tuple[str, Path], look: Look) -> None:
    url, path = served
    assert url.startswith("http://127.0.0.1:")
    seen = look(url, viewport={"width": 1000, "height": 500})
    seen.drawn()
    seen.page.locator("#live", has_text="new results appear").wait_for()
    went: list[str] = []
    seen.page.on("framenavigated", lambda frame: went.append(frame.url))
    find = seen.page.get_by_label("Find")
    find.fill("e")
    heading = seen.page.locator("#results").get_by_role("columnheader", name="Memory")
    heading.get_by_role("button").click()
    seen.page.evaluate("document.querySelector('details.record').open = true")
    seen.page.evaluate("document.querySelector('#f-decode').scrollIntoView(); window.mine = true")
    seen.page.evaluate("document.querySelector('#f-decode svg').dataset.old = 'yes'")
    find.evaluate("field => field.focus({ preventScroll: true })")
    top = "document.querySelector('#f-decode').getBoundingClientRect().top"
    before = seen.page.evaluate(top)
    assert "newcomer" not in seen.page.locator("#results").inner_text()
    with Store(path) as opened:
        opened.add(record(device="newcomer", backend="vulkan"))
    seen.page.locator("#results", has_text="newcomer").wait_for()
    seen.page.wait_for_selector("#f-decode svg:not([data-old])", state="attached")
    seen.drawn()
    assert "newcomer" in (seen.page.locator("#f-decode svg").text_content() or "")
    assert seen.page.locator("#f-decode .plot").count() == 1
    assert find.input_value() == "e"
    assert heading.get_attribute("aria-sort") == "ascending"
    assert seen.page.evaluate("document.activeElement.name") == "words"
    assert seen.page.locator("details.record[open]").count() == 1
    assert abs(seen.page.evaluate(top) - before) < 3
    assert shown(seen) == 2
    seen.page.locator("#controls").get_by_label("Backend").select_option("vulkan")
    assert shown(seen) == 1
    assert (went, seen.page.evaluate("window.mine")) == ([], True)
    assert seen.said == []
    assert all(address.startswith(url) for address in seen.asked)


def test_a_served_page_may_begin_with_nothing(tmp_path: Path, look: Look) -> None:
    path = tmp_path / "results.sqlite"
    command = [sys.executable, "-m", "edgebench", "report", "--serve", "--store", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        seen = look(process.stdout.readline().strip())
        assert "There are no results yet" in seen.page.locator("main").inner_text()
        store(path, [record(device="first"), record(device="second")])
        seen.page.locator("#f-decode svg").first.wait_for()
        seen.page.get_by_label("Find").fill("second")
        assert shown(seen) == 1
        path.write_bytes(b"not a store any more, whatever it was before")
        seen.page.locator("#live", has_text="Update failed").wait_for()
        assert shown(seen) == 1
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE / 1000)


def ask(url: str, host: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE / 1000) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_foreign_name_for_this_machine_is_refused(served: tuple[str, Path]) -> None:
    url, _ = served
    port = url.rsplit(":", 1)[1].strip("/")
    assert ask(url)[0] == 200
    assert ask(url, f"localhost:{port}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "127.0.0.1:1"):
        status, text = ask(url, host)
        assert status == 403
        assert "first" not in text
    assert ask(f"{url}results.sqlite")[0] == 404
    assert ask(f"{url}../../etc/passwd")[0] == 404


# --- from a real run --------------------------------------------------------------------------


def test_a_real_run_becomes_a_page(tmp_path: Path, look: Look) -> None:
    path = tmp_path / "results.sqlite"
    base = [sys.executable, "-m", "edgebench"]
    few = ["--rounds", "2", "--prompt-tokens", "16", "--gen-tokens", "8", "--ctx", "256", "--threads", "1,2"]
    subprocess.run([*base, "run", "--store", str(path), *few], check=True, timeout=500, capture_output=True)
    subprocess.run([*base, "report", "--store", str(path), "-o", str(tmp_path)], check=True, timeout=300)
    seen = look((tmp_path / "index.html").as_uri())
    seen.drawn()
    assert seen.said == []
    ids = seen.page.eval_on_selector_all(".figure", "sections => sections.map(s => s.id.slice(2))")
    assert {"decode", "memory", "threads", "timeline"} <= set(ids)
    assert shown(seen) == 2
    assert all(float(value) > 0 for name in (3, 4, 5, 6) for value in column(seen, name))
