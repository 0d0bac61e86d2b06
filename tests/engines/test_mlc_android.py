"""MLCChat on Android: a screen that is read and pressed, rounds that survive it, deaths with a reason.

The app is played; every record of it says ``test-double``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab.mlcchat import Mlcchat

from edgebench import modelfiles, profiles
from edgebench.cli import main
from edgebench.engines import mlc_app, mlc_ends, mlc_screen
from edgebench.errors import Unreadable, UsageError
from edgebench.plan import sweep

SHORT = ("--scenario", "chat", "--conversations", "1", "--reply-tokens", "16", "--ctx", "144", "--settle", "0")


@dataclass
class Ran:
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(mlcchat: Mlcchat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """The program in this process, as the app's folder is another one here."""

    def start(*argv: str, rounds: int = 1, backend: str = "opencl") -> Ran:
        words = ["run", "--device", mlcchat.profile, "--engine", "mlc-llm", "--model", str(mlcchat.model)]
        words += ["--rounds", str(rounds), "--backend", backend, *SHORT, *argv]
        monkeypatch.setattr(sys, "argv", ["edgebench", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return Ran(int(ended.value.code or 0), told.out, told.err)

    return start


def test_a_conversation(mlcchat: Mlcchat, run: Callable[..., Ran]) -> None:
    result = run("--json", "-")
    assert result.exit_code == 0, result.stderr
    (record,) = json.loads(result.stdout)["records"]
    engine = record["facts"]["engine"]
    assert engine["build"] == "MLCChat 1.0-test-double"
    assert engine["backend"] == "opencl"
    assert engine["buffers"]["estimated parameters"] == 1500 * 2**20
    assert engine["ignored_options"] == ["ctx"]
    assert "estimated" in {doubt["id"] for doubt in record["doubts"]}
    turns = [turn for turn in record["rounds"][0]["turns"] if turn["label"] != "warm-up"]
    assert len(turns) >= 2
    # What stands on the screen is what is recorded, comma or point, and a new conversation began after the warm-up.
    assert [round(turn["prefill_tps"], 9) for turn in turns] == [30.5 + n for n in range(1, len(turns) + 1)]
    assert {round(turn["decode_tps"], 9) for turn in turns} == {11.1}
    assert turns[0]["text"].startswith("Answer 1. Word")
    assert turns[1]["cached_tokens"] > turns[0]["cached_tokens"]
    assert {"load_s", "peak_rss_b", "decode_tps"} <= set(record["metrics"])
    memory = {name: record["metrics"][name]["value"] for name in ("peak_pss_b", "peak_gpu_b")}
    assert memory == {"peak_pss_b": 412345 * 1024, "peak_gpu_b": 204800 * 1024}
    # The app's own folder has the model, under the name that the app knows it by.
    assert sorted(p.name for p in (mlcchat.files / "tiny-q4f16_1-MLC").iterdir()) == sorted(
        p.name for p in mlcchat.model.iterdir()
    )
    # Nothing is left running.
    assert json.loads(mlcchat.state.read_text())["screen"] == "launcher"


def test_a_crash_after_a_round_is_a_result_of_its_own(mlcchat: Mlcchat, run: Callable[..., Ran]) -> None:
    # Answers of the app's third conversation's first question: the warm-up and one round before it.
    mlcchat.set("dies-at-total-5")
    result = run("--json", "-", rounds=9)
    assert result.exit_code == 1
    (record,) = json.loads(result.stdout)["records"]
    assert record["status"] == "failed"
    failure = record["failure"]["message"]
    assert "CRASH(NATIVE) (status 11), crash" in failure
    assert "Fatal signal 11 (SIGSEGV)" in failure
    assert "LOW_MEMORY" not in failure  # an earlier process's
    assert "whole round" in failure
    assert len(record["rounds"]) >= 1
    assert record["metrics"]["decode_tps"]["value"] == pytest.approx(11.1)
    assert any("failed after" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("fault", "words", "picture"),
    [
        ("asks-permission", "MLCChat asks for a permission on the screen of phone", True),
        ("unknown-screen", "the screen of phone shows something unknown: Swipe up to unlock", True),
        ("torn-weights", "the weights on the device are incomplete", False),
        ("fails", "could not load tiny-q4f16_1-MLC: MLCChat failed", False),
        ("pending", "the app is still checking its weights", False),
        ("no-rates", "MLCChat reported no rates, but: Cannot parse the request", True),
        ("no-answer", "MLCChat did not reply", True),
        ("context-full", "reached the context that tiny-q4f16_1-MLC was compiled with", False),
        ("keyboard", "the keyboard of phone changed the prompt: 'Hallo", False),
        ("does-not-start", "exited with status 3", False),
    ],
)
def test_what_can_be_wrong_on_the_phone(
    mlcchat: Mlcchat,
    run: Callable[..., Ran],
    fault: str,
    words: str,
    picture: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(mlc_app, "SCREEN_TIMEOUT_S", 3.0)
    monkeypatch.setattr(mlc_app, "PERMISSION_TIMEOUT_S", 1.0)
    mlcchat.set(fault)
    result = run()
    assert result.exit_code == 1, result.stderr
    assert words in result.stderr
    kept = list((tmp_path / "cache" / "screens").glob("phone-*.png"))
    assert bool(kept) is picture
    if picture:
        assert kept[0].read_bytes().startswith(b"\x89PNG")
        assert str(kept[0]) in "".join((result.stdout + result.stderr).split())


@pytest.mark.parametrize(
    ("fault", "more"),
    [
        # Without a network the app tells of each model of its list that it hasn't got.
        ("", {"alerts": 2}),
        # A permission that was refused for good is asked for at each start, for a moment.
        ("permission-flash", {}),
        ("long-answers", {}),
        # The apps of v0.17 to v0.19, which the project's own APK is: no camera, no button that says "busy".
        ("", {"camera": False}),
    ],
)
def test_what_does_not_matter(mlcchat: Mlcchat, run: Callable[..., Ran], fault: str, more: dict[str, Any]) -> None:
    mlcchat.set(fault, **more)
    result = run("--json", "-")
    assert result.exit_code == 0, result.stderr
    (record,) = json.loads(result.stdout)["records"]
    turns = [turn for turn in record["rounds"][0]["turns"] if turn["label"] != "warm-up"]
    assert [turn["text"][:9] for turn in turns] == [f"Answer {n}." for n in range(1, len(turns) + 1)]
    assert [round(turn["prefill_tps"], 9) for turn in turns] == [30.5 + n for n in range(1, len(turns) + 1)]


def test_an_app_without_that_model(mlcchat: Mlcchat, run: Callable[..., Ran]) -> None:
    mlcchat.set(models=["other-1B", "other-2B", "other-3B"], alerts=1)
    result = run()
    assert result.exit_code == 1
    assert "does not list tiny-q4f16_1-MLC (listed: other-3B" in result.stderr
    assert "message: Download model config failed" in result.stderr


def test_an_app_that_is_not_installed(mlcchat: Mlcchat, run: Callable[..., Ran]) -> None:
    mlcchat.set("not-installed")
    result = run()
    assert result.exit_code == 3
    assert "MLCChat (ai.mlc.mlcchat) is not installed on phone" in result.stderr
    assert "deploy/android" in result.stderr


@pytest.mark.parametrize(
    ("argv", "backend", "words"),
    [
        ((), "cpu", "supports only OpenCL, not cpu"),
        (("--scenario", "throughput", "--prompt-tokens", "8", "--gen-tokens", "8"), "opencl", "exact lengths are not"),
    ],
)
def test_what_the_app_cannot_do_is_said_before_anything_is_sent(
    mlcchat: Mlcchat, run: Callable[..., Ran], argv: tuple[str, ...], backend: str, words: str
) -> None:
    result = run(*argv, backend=backend)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not mlcchat.files.exists()
    assert not (mlcchat.phone.home / "edge").exists()


def test_text_is_data() -> None:
    assert mlc_screen.typable("Don’t say “yes” –\n café $(x) 100%s") == 'Don\'t say "yes" - cafe $(x) 100% s'


# --- screens ---------------------------------------------------------------------------------

PACKAGE = 'package="ai.mlc.mlcchat"'


def screen(*nodes: str) -> Any:
    found = mlc_screen.parse(f"<?xml version='1.0'?><hierarchy rotation=\"0\">{''.join(nodes)}</hierarchy>\nUI dumped")
    assert found is not None
    return found


def node(text: str = "", description: str = "", enabled: str = "true", y: int = 0, inner: str = "") -> str:
    where = f'bounds="[0,{y}][100,{y + 50}]"'
    return (
        f'<node text="{text}" content-desc="{description}" class="android.view.View" {PACKAGE} '
        f'enabled="{enabled}" {where}>{inner}</node>'
    )


def test_a_button_is_as_enabled_as_what_it_lies_in() -> None:
    inner = node(description="reset the chat")
    assert screen(node(inner=inner)).is_loaded
    assert not screen(node(enabled="false", inner=inner)).is_loaded
    assert not screen(node(inner=inner), node(enabled="false", description="use camera")).is_loaded


@pytest.mark.parametrize(
    ("label", "rates"),
    [
        ("prefill: 12.3 tok/s, decode: 4.5 tok/s", (12.3, 4.5)),
        ("prefill: 12,3 tok/s, decode: 0,5 tok/s", (12.3, 0.5)),
        ("decode: 4.5 tok/s", (None, 4.5)),
        ("prefill: NaN tok/s", (None, None)),
        ("Image process is done, ask any question.", (None, None)),
    ],
)
def test_rates_as_the_app_writes_them(label: str, rates: tuple[float | None, float | None]) -> None:
    assert screen(node(label)).rates == rates


def test_a_dialog_hides_the_app() -> None:
    below = node("Model List")
    assert screen(below).state == "models"
    assert screen(below, node("Error"), node("Model lib x is not supported."), node("Dismiss")).state == "alert"
    crash = '<node text="MLCChat keeps stopping" package="android" bounds="[0,0][1,1]"/>'
    assert screen(below, crash).state == "crashed"
    assert screen('<node text="x" package="com.android.systemui" bounds="[0,0][1,1]"/>').state == "elsewhere"


def test_dumps_that_are_none() -> None:
    assert mlc_screen.parse("") is None
    assert mlc_screen.parse("ERROR: could not get idle state.\n") is None
    for text in ("sh: uiautomator: not found", "<hierarchy><node></hierarchy>", "<hierarchy>"):
        with pytest.raises(Unreadable):
            mlc_screen.parse(text)


def test_the_reason_of_an_end() -> None:
    # Form of ApplicationExitInfo.dump (Android 11 and later).
    entry = (
        "          process=ai.mlc.mlcchat reason=3 (LOW_MEMORY) subreason=30 (LMKD) status=0\n"
        "          importance=100 pss=0.00 rss=5.1GB description=null state=empty trace=null"
    )
    assert mlc_ends.exit_reason(entry) == "LOW_MEMORY (status 0), LMKD"
    assert mlc_ends.exit_reason("nothing") == ""
    log = [
        "I/ActivityManager( 1): Process ai.mlc.mlcchat (pid 4711) has died: fg TOP",
        "I/lowmemorykiller( 1): Kill 'ai.mlc.mlcchat' (4711), uid 10246, oom_score_adj 0 to free 5123456kB rss",
    ]
    assert mlc_ends.find_crash(log).startswith("Kill 'ai.mlc.mlcchat' (4711)")
    words = mlc_ends.last_words([*log, mlc_ends.EXIT_MARK, *entry.splitlines()])
    assert words is not None
    assert words[1].startswith("The phone ran out of memory")
    assert mlc_ends.last_words(log) is None


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        # A model that does not fit ends the engine's thread, and that ends the app.
        (
            "E/AndroidRuntime( 4711): org.apache.tvm.Base$TVMError: InternalError: Check failed: (output_res.IsOk()) "
            "is false: Insufficient GPU memory error: The available single GPU memory is 4352.000 MB, which is less",
            "ran out of memory",
        ),
        (
            "E/AndroidRuntime( 4711): java.net.UnknownHostException: Unable to resolve host",
            "tensor-cache.json",
        ),
    ],
)
def test_an_end_comes_with_advice(line: str, hint: str) -> None:
    words = mlc_ends.last_words([mlc_ends.EXIT_MARK, line])
    assert words is not None
    assert hint in words[1]


def test_no_speculation_in_the_app(mlcchat: Mlcchat) -> None:
    phone, model = profiles.load_device(mlcchat.profile), modelfiles.resolve(str(mlcchat.model), formats=("mlc",))
    with pytest.raises(UsageError, match="no speculative mode"):
        sweep.sweep(phone, model, [], [2], engine="mlc-llm", backend="opencl", options={})
