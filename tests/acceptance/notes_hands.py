"""Hands and eyes on the notes window, in its own process: does what stdin says, one JSON line each, and tells what is
seen. The keys are Tk's own events, and a clock on Tk's thread says how long the window ever stood still.
"""

import argparse
import json
import queue
import sys
import threading
from pathlib import Path
from typing import Any

from simulator import notes
from simulator.notes.window import NotesWindow
from syncengine.clock import SystemClock

BEAT_MS = 10


class Hands:
    def __init__(self, window: NotesWindow) -> None:
        self._window = window
        self._asked: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._clock = SystemClock()
        self._beat_at_ms = self._clock.monotonic_ms()
        self._stood_still_ms = 0
        threading.Thread(target=self._listen, daemon=True).start()
        self._beat()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._asked.put(json.loads(line))
        self._asked.put(None)

    def _beat(self) -> None:
        now_ms = self._clock.monotonic_ms()
        self._stood_still_ms = max(self._stood_still_ms, now_ms - self._beat_at_ms - BEAT_MS)
        self._beat_at_ms = now_ms
        while not self._asked.empty():
            asked = self._asked.get()
            if asked is None:
                self._window.close()
                return
            self._do(**asked)
            print(json.dumps(self._seen()), flush=True)
        self._window.root.after(BEAT_MS, self._beat)

    def _do(self, *, do: str, **more: str) -> None:
        if do == "new":
            self._window.new_note()
        elif do == "type":
            self._type(**more)
        elif do == "choose":
            self._choose(**more)
        elif do == "delete":
            self._window.delete_note()

    def _type(self, *, into: str, words: str) -> None:
        field = {"title": self._window.title, "text": self._window.text}[into]
        field.focus_force()
        self._window.root.update()
        for letter in words:
            keysym = {" ": "space", ".": "period"}.get(letter, letter)
            field.event_generate("<KeyPress>", keysym=keysym)
            field.event_generate("<KeyRelease>", keysym=keysym)

    def _choose(self, *, title: str) -> None:
        titles = self._window.titles
        titles.selection_clear(0, "end")
        titles.selection_set(titles.get(0, "end").index(title))
        titles.event_generate("<<ListboxSelect>>")

    def _seen(self) -> dict[str, Any]:
        stood_still_ms, self._stood_still_ms = self._stood_still_ms, 0
        return {
            "status": self._window.status.cget("text"),
            "titles": self._window.titles.get(0, "end"),
            "title": self._window.title.get(),
            "text": self._window.text.get("1.0", "end-1c"),
            "stood_still_ms": stood_still_ms,
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    notes.add_options(parser)
    asked = parser.parse_args()
    window = NotesWindow(
        Path(asked.dir) / f"notes-{asked.device}.db",
        device=asked.device,
        user=asked.user,
        cloud_url=asked.cloud,
        token_file=asked.token_file,
    )
    window.root.hands = Hands(window)
    window.show_until_closed()


if __name__ == "__main__":
    main()
