"""Plays an Android phone with the MLCChat app: what its commands print, and how its screen answers touches.

    python mlcchat_player.py STATE COMMAND ARGUMENTS…

The texts, buttons and states are those of ``android/MLCChat`` in mlc-llm's sources (July 2026; with
``camera`` off those of v0.17 to v0.19), its tree as Compose gives it to accessibility. What it
"answers" is no model's; its version says ``test-double``. ``fault`` in the state names one thing that
goes wrong; ``alerts`` is how many dialogs the list of models begins with.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

PACKAGE = "ai.mlc.mlcchat"
LOAD_S, ANSWER_S = 0.3, 0.3

Box = tuple[int, int, int, int]


class Phone:
    """Its state lies in a file: each command is a process of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state: dict[str, Any] = json.loads(path.read_text())

    def keep(self, **changes: Any) -> None:
        self.state.update(changes)
        self.path.write_text(json.dumps(self.state))

    @property
    def fault(self) -> str:
        return str(self.state.get("fault", ""))

    # --- commands ----------------------------------------------------------------------------

    def am(self, verb: str, *words: str) -> int:
        if verb == "force-stop":
            self.kill()
            self.keep(screen="launcher", pid=0)
        elif self.fault == "does-not-start":
            print("Error: Activity class {ai.mlc.mlcchat/ai.mlc.mlcchat.MainActivity} does not exist.")
            return 1
        else:
            # Without this descriptor open, or adbd would wait for it.
            process = subprocess.Popen(["sleep", "100000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            shown = {"asks-permission": "permission", "permission-flash": "permission", "unknown-screen": "locked"}
            screen = shown.get(self.fault, "models")
            fresh: dict[str, Any] = {
                "page": 0,
                "text": "",
                "messages": [],
                "report": "",
                "until": 0.0,
                "pending": False,
            }
            self.keep(pid=process.pid, screen=screen, began=time.time(), dialogs=self.state.get("alerts", 0), **fresh)
            print("Starting: Intent { cmp=ai.mlc.mlcchat/.MainActivity }\nStatus: ok\nComplete")
        return 0

    def kill(self) -> None:
        if self.state.get("pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.state["pid"], signal.SIGKILL)

    def alive(self) -> bool:
        stat = Path(f"/proc/{self.state.get('pid')}/stat")
        return bool(self.state.get("pid")) and stat.exists() and ") Z" not in stat.read_text()

    def pidof(self, *_: str) -> int:
        if self.alive():
            print(self.state["pid"])
        return 0 if self.alive() else 1

    def pm(self, *_: str) -> int:
        if self.fault != "not-installed":
            print("package:/data/app/~~x==/ai.mlc.mlcchat-y==/base.apk")
        return 0 if self.fault != "not-installed" else 1

    def dumpsys(self, what: str, *words: str) -> int:
        if what == "package":
            print("    versionCode=1 minSdk=26 targetSdk=33\n    versionName=1.0-test-double")
        elif what == "meminfo":
            print("    GL mtrack   204800   204800        0        0   204800")
            print("        TOTAL   412345   401234      512       64   512345")
        elif what == "activity" and self.fault:
            print("ACTIVITY MANAGER PROCESS EXIT INFO (dumpsys activity exit-info)")
            print(
                "  package: ai.mlc.mlcchat\n    Historical Process Exit for uid=10246\n        ApplicationExitInfo #0:"
            )
            for pid, reason in ((self.state["pid"], "5 (CRASH(NATIVE))"), (4711, "3 (LOW_MEMORY)")):
                print(f"          timestamp=2026-11-21 16:12:33.123 pid={pid} realUid=10246 packageUid=10246 user=0")
                print(f"          process=ai.mlc.mlcchat reason={reason} subreason=0 (UNKNOWN) status=11")
                print("          importance=100 pss=1.2GB rss=2.3GB description=crash state=empty trace=null\n")
        return 0

    def logcat(self, *words: str) -> int:
        print(
            "I/TVM_RUNTIME( 4711): /src/opencl_device_api.cc:446: Initialize OpenCL platform 'QUALCOMM Snapdragon(TM)'"
        )
        print(
            "I/TVM_RUNTIME( 4711): /src/config.cc:726: Estimated total single GPU memory usage: 2000.000 MB "
            "(Parameters: 1500.000 MB. KVCache: 400.000 MB. Temporary buffer: 100.000 MB). The actual usage might be "
            "slightly larger than the estimated number.",
            flush=True,
        )
        if "-d" in words:
            if self.fault:
                pid = self.state["pid"]
                print(f"F/libc    ( {pid}): Fatal signal 11 (SIGSEGV), code 1 (SEGV_MAPERR) in tid 4740 (Thread-9)")
                print("F/libc    ( 1234): Fatal signal 6 (SIGABRT), code -1 (SI_QUEUE) in tid 1234 (another.app)")
            return 0
        while True:
            time.sleep(1)

    def screencap(self, *_: str) -> int:
        sys.stdout.buffer.write(b"\x89PNG\r\n\x1a\n the screen")
        return 0

    def uiautomator(self, verb: str, file: str) -> int:
        self.settle()
        if self.writing() or self.fault == "never-still":
            print("ERROR: could not get idle state.")
            return 0
        tree = "".join(node(*one) for one in self.nodes())
        Path(file).write_text(f'<?xml version="1.0" encoding="UTF-8"?><hierarchy rotation="0">{tree}</hierarchy>')
        print(f"UI hierchary dumped to: {file}")
        return 0

    def input(self, verb: str, *words: str) -> int:
        self.settle()
        if verb == "text":
            typed = words[0].replace("%s", " ")
            self.keep(text=self.state["text"] + ("Hallo" if self.fault == "keyboard" else typed))
        elif verb == "swipe":
            self.keep(page=min(self.state["page"] + 1, (len(self.state["models"]) - 1) // 2))
        elif verb == "tap":
            self.tap(int(words[0]), int(words[1]))
        return 0

    # --- the app -----------------------------------------------------------------------------

    def busy(self) -> bool:
        """Loading its model, or answering."""
        return bool(self.state.get("until", 0.0) > time.time() and self.state["screen"] == "chat")

    def generating(self) -> bool:
        return self.busy() and bool(self.state["messages"])

    def writing(self) -> bool:
        """In the second half of an answer: while the prompt is read, nothing on the screen moves."""
        return self.generating() and time.time() > self.state["until"] - ANSWER_S / 2

    def settle(self) -> None:
        """What has happened since it was last looked at."""
        if not self.alive() and self.state["screen"] not in ("launcher",):
            self.keep(screen="launcher")
        if self.fault == "permission-flash" and self.state["screen"] == "permission":
            self.keep(screen="models" if time.time() > self.state["began"] + 0.5 else "permission")
        if self.state.get("pending") and not self.busy():
            many = sum(1 for role, _ in self.state["messages"] if role == "user")
            self.keep(answers=self.state.get("answers", 0) + 1)
            if self.fault == f"dies-at-total-{self.state['answers']}":
                self.kill()
                self.keep(screen="launcher", pending=False)
                return
            said = {
                "fails": "MLCChat failed\n\nStack trace:\nx\n\nError message:\nno",
                "no-rates": "Cannot parse the request",
                "no-answer": "",
                "context-full": " [output truncated due to context length limit...]",
            }.get(self.fault, f"Answer {many}." + " Word" * 40)
            rates = f"prefill: {30 + many}.5 tok/s, decode: 11,1 tok/s"
            self.keep(
                messages=[*self.state["messages"], ["assistant", said]],
                report="" if self.fault in ("no-rates", "no-answer", "context-full") else rates,
                pending=False,
            )

    def tap(self, x: int, y: int) -> None:
        for text, description, _, enabled, (left, top, right, bottom), *_rest in reversed(self.nodes()):
            what = "Dismiss" if text == "Dismiss" else description
            if what and enabled and left <= x <= right and top <= y <= bottom:
                self.press(what, y)
                return

    def press(self, what: str, y: int) -> None:
        if what == "Dismiss":
            self.keep(dialogs=self.state["dialogs"] - 1)
        elif what == "start chatting":
            self.keep(screen="chat", until=time.time() + LOAD_S, pending=self.fault == "fails")
        elif what == "reset the chat":
            self.keep(messages=[], report="")
        elif what == "send message":
            messages = [*self.state["messages"], ["user", self.state["text"]]]
            self.keep(messages=messages, text="", until=time.time() + ANSWER_S, pending=True)

    def nodes(self) -> list[tuple[str, str, str, bool, Box, str]]:
        """text, description, class, enabled, bounds, package."""
        screen, view, label = self.state["screen"], "android.view.View", "android.widget.TextView"
        if screen == "launcher":
            return [("Clock", "", label, True, (0, 0, 100, 100), "com.android.launcher3")]
        if screen == "locked":
            return [("Swipe up to unlock", "", label, True, (0, 0, 100, 100), "com.android.systemui")]
        if screen == "permission":
            words = "Allow MLCChat to access photos and videos on this device?"
            return [(words, "", label, True, (0, 0, 100, 100), "com.google.android.permissioncontroller")]
        whole = ("", "", view, True, (0, 0, 1080, 2400), PACKAGE)
        if screen == "models" and self.state["dialogs"]:
            # A dialog is a window of its own: what lies below it isn't in the tree.
            words = 'Download model config failed: Unable to resolve host "huggingface.co"'
            texts = ("Error", words, "Copy", "Dismiss")
            return [
                whole,
                *((t, "", label, True, (40, 900 + 60 * i, 1000, 950 + 60 * i), PACKAGE) for i, t in enumerate(texts)),
            ]
        if screen == "models":
            page = self.state["page"] * 2
            found = [whole, ("MLCChat", "", label, True, (40, 100, 400, 160), PACKAGE)]
            found.append(("Model List", "", label, True, (40, 200, 400, 260), PACKAGE))
            for row, name in enumerate(self.state["models"][page : page + 2]):
                top = 300 + 200 * row
                first = {"torn-weights": "start downloading", "pending": "pending"}.get(self.fault, "start chatting")
                found += [
                    (name, "", label, True, (40, top, 700, top + 100), PACKAGE),
                    ("", first, view, first != "pending", (720, top, 820, top + 100), PACKAGE),
                    # As in the app's source: the bin is described like the download.
                    ("", "start downloading", view, True, (840, top, 940, top + 100), PACKAGE),
                ]
            return found
        idle, label_ = not self.busy(), self.state["text"] or "Input"
        loaded = idle or self.generating()
        found = [
            whole,
            ("MLCChat: tiny", "", label, True, (200, 100, 700, 160), PACKAGE),
            ("", "back home page", view, loaded, (0, 80, 120, 180), PACKAGE),
            ("", "reset the chat", view, loaded, (900, 80, 1020, 180), PACKAGE),
            (self.state["report"], "", label, True, (40, 200, 1040, 260), PACKAGE),
        ]
        long = self.fault == "long-answers"
        for row, (role, text) in enumerate(self.state["messages"][-1 if long else -4 :]):
            top = 300 + 300 * row
            if role == "assistant" and text:
                found.append(("Show as Markdown", "", label, True, (40, top, 500, top + 60), PACKAGE))
            # A text view's box is its own, even where a bar lies over it.
            box = (40, 0, 900, 2190) if long else (40, top + 70, 900, top + 250)
            found.append((text, "", label, True, box, PACKAGE))
        camera = [
            ("", "use camera", view, idle, (720, 2200, 800, 2300), PACKAGE),
            ("", "select image", view, idle, (820, 2200, 900, 2300), PACKAGE),
        ]
        return [
            *found,
            (label_, "", "android.widget.EditText", True, (40, 2200, 700, 2300), PACKAGE),
            *(camera if self.state.get("camera", True) else []),
            ("", "send message", view, idle and bool(self.state["text"]), (920, 2200, 1000, 2300), PACKAGE),
        ]


def node(text: str, description: str, kind: str, enabled: bool, bounds: Box, package: str) -> str:
    """As Compose's buttons come out: what is pressed around what is described."""
    left, top, right, bottom = bounds
    place = f"[{left},{top}][{right},{bottom}]"
    inner = (
        f'<node index="0" text={quoteattr(text)} class={quoteattr(kind)} package={quoteattr(package)} '
        f'content-desc={quoteattr(description)} clickable="false" enabled="true" bounds="{place}" />'
    )
    if not description:
        return inner
    return (
        f'<node index="0" text="" class="android.view.View" package={quoteattr(package)} content-desc="" '
        f'clickable="true" enabled="{str(enabled).lower()}" bounds="{place}">{inner}</node>'
    )


if __name__ == "__main__":
    phone = Phone(Path(sys.argv[1]))
    sys.exit(getattr(phone, sys.argv[2])(*sys.argv[3:]))
