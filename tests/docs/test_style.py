"""Help texts, messages, pages and documentation follow docs/style.md: no pattern that it rules out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgebench.cli import cli

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "edgebench"
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "reports/README.md"} - {ROOT / "docs/style.md"})
"""The style guide itself quotes what it rules out."""

FORBIDDEN = {
    r"(no|some|every)body": "name the user, the process or the state",
    r"(is|are|was|were|been|be) (told|said)": "an active verb: reports, states",
    r"h(old|olds|eld|olding)( \w+)? against": "compare with, verify",
    r"(at|by|on) (its|their|your|one's) (own )?word": "unverified, as reported",
    r"(of|on|by) one's own|one's own": "your, its, the user's",
    r"what (becomes|became|is to become) of|what .{0,30} (is|are) made of": "a noun",
    r"again for more": "repeatable",
    r"passe[sd]? over|pass over (everything|all)": "rounds",
    r"(?<!there )(is|are) no (?!longer|more|better|worse|doubt\b)\w+": "must be, is not a",
    r"(?<!there )(is|are|was) none": "is not a",
    r"g(ive|ives|iven|iving|ave) up": "times out, stops",
    r"st(and|ands|ood|anding) (in(?! for)|beside|there|still|on|at|below|under|apart|here)": "is, has, contains",
    r"(is|was|were|been|be) waited for": "timed out after",
    r"let us in": "logged in",
    r"(said|says|heard|hears|hear|tells?|told) (nothing|no \w+)": "no data, no response, no heartbeat",
    r"(tell|tells|told|say|says|said) (us|it|them|of)": "report",
    r"than it says": "below the nominal value",
    r"as it was (asked|told)": "with the requested settings",
    r"br(eak|eaks|oke|oken) off": "fail part-way, stop",
    r"weighs?|weighed": "compare",
    r"is a way of": "requires, is an option of",
    r"go(es)? by": "uses",
    r"where (there|nothing|none|no|one|it|this|that) (is|are|was|were|has|have|can|could|may|does|did)": "if",
    r"where (nothing|none|no one|nobody)": "if nothing",
    r"beside": "next to, with, compared with",
    r"anew": "again",
    r"lie[sd]? (on|in|there|here|under|at)": "is in, is stored in",
    r"(be|is|are|was|were) (put|placed) (there|onto|upon)|put there": "deployed, installed",
    r"(is|are|was|were|be) there already|already there": "already exists, already present",
    r"(can|could) be had": "if available",
    r"means? nothing to": "is ignored",
    r"(acted out|its wits|played|swollen)": "simulated; no figures of speech",
    r"(known|know|knows) (no|nothing) (of|about)?|known of": "unknown, does not support",
    r"as (it|they) (is|are) (understood|found)": "with defaults applied, auto-detected",
    r"what (was|is) (asked|said|told|known|meant|wanted)\b": "requested, reported",
    r"comes? on top|and the like|so and so": "plus",
}


def violations(text: str) -> list[str]:
    """The forbidden phrases in a text, each with what to write instead; code is left out."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "`code`", text, flags=re.S)
    prose = re.sub(r"\s+", " ", prose)
    return [
        f"{prose[max(0, match.start() - 40) : match.end() + 40]!r}: not {match[0]!r}; {instead}"
        for pattern, instead in FORBIDDEN.items()
        for match in re.finditer(rf"\b(?:{pattern})\b", prose, re.I)
    ]


# --- what is checked ---------------------------------------------------------------------------


def helps(command: click.Command, path: str = "edgebench") -> Iterator[tuple[str, str]]:
    """(command or option, its help) of a command and all its subcommands."""
    context = click.Context(command, info_name=path)
    yield path, " ".join(filter(None, (command.help, command.short_help)))
    for param in command.get_params(context):
        if isinstance(param, click.Option):
            yield f"{path} {param.opts[0]}", param.help or ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from helps(below, f"{path} {name}")


def wording(node: ast.expr) -> str:
    """The text of a string literal; what an f-string computes is an ellipsis."""
    if isinstance(node, ast.JoinedStr):
        return "".join("…" if isinstance(part, ast.FormattedValue) else wording(part) for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def literals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of every string literal of several words, docstrings aside."""
    parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            parts.add(id(node.value))  # a docstring
        elif isinstance(node, ast.JoinedStr):
            parts.update(map(id, node.values))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in parts:
            text = re.sub(r"^\s*#.*$", "", wording(node), flags=re.M)  # comments of a script for a device
            if " " in text:
                yield node.lineno, text


def messages() -> list[tuple[str, str]]:
    """(file:line, text) of all literals in the package: errors, hints, notes, headings, captions."""
    return [
        (f"{path.relative_to(ROOT)}:{line}", text)
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in literals(ast.parse(path.read_text("utf-8")))
    ]


def visible(template: str) -> str:
    """The text of a page's template without tags, scripts, styles and template code."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", template, flags=re.S)
    text = re.sub(r"\{[%#].*?[%#]\}|\{\{.*?\}\}", "…", text, flags=re.S)
    return re.sub(r"<[^>]*>", " ", text)


HELPS = list(helps(cli))
MESSAGES = messages()


def test_there_is_something_to_check() -> None:
    places = {place for place, _ in HELPS}
    assert {"edgebench run --rounds", "edgebench devices trust", "edgebench speculative --k"} <= places
    assert len(MESSAGES) > 1000
    assert any(text.startswith("stdin is not a terminal, so") for _, text in MESSAGES)
    assert ROOT / "README.md" in PAGES
    assert ROOT / "docs/telemetry.md" in PAGES


@pytest.mark.parametrize(
    "text",
    [
        "the engine said nothing for 600 s",
        "MLCChat was waited for 30 s",
        "'x' is no share between 0 and 1",
        "nobody is there to answer",
        "Where --target-ci gives up.",
        "Read them again and hold them against their hashes.",
        "the device heard nothing from here",
        "--gpu-layers mean nothing to the CPU",
        "Of this run. Again for more.",
    ],
)
def test_the_patterns_catch_known_offenders(text: str) -> None:
    assert violations(text)


def test_every_literal_is_found_but_docstrings_and_comments_of_scripts() -> None:
    source = """
def f(x):
    'a docstring'
    raise Error(f"a {x or 'b c'} d", 'e ' 'f')
SCRIPT = '# a comment\\n echo g'
"""
    assert sorted(text.strip() for _, text in literals(ast.parse(source))) == ["a … d", "b c", "e f", "echo g"]


def test_code_is_not_prose() -> None:
    assert not violations("use `nobody`:\n```sh\necho nobody\n```\n")


@pytest.mark.parametrize(("place", "text"), HELPS, ids=[place for place, _ in HELPS])
def test_help(place: str, text: str) -> None:
    assert not violations(text)
    assert not re.match(r"(of|where|what|how|who|whether|so|again)\b", text, re.I), f"{place} needs a noun or a verb"


def test_messages() -> None:
    assert [f"{place}: {one}" for place, text in MESSAGES for one in violations(text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page: Path) -> None:
    assert not violations(page.read_text("utf-8"))


@pytest.mark.parametrize("template", sorted(PACKAGE.rglob("*.html")), ids=lambda path: path.name)
def test_templates(template: Path) -> None:
    assert not violations(visible(template.read_text("utf-8")))
