"""The window: notes on the left, the chosen one on the right, and how syncing stands at the bottom.

All of it runs on Tk's thread, the store's reads and writes too, for they take milliseconds. The network has threads
of its own, and the window hears of them through `TkCallbacks`.
"""

import tkinter as tk
from pathlib import Path

from simulator.app import token_of
from simulator.notes.notebook import REGISTRY, Note, Notebook, status_line
from syncengine import Engine, Settings
from syncengine.callbacks import TkCallbacks
from syncengine.clock import SystemClock, system_random

SAVE_AFTER_MS = 300
"""So long after the last key a note is saved; at once when another one is chosen or the window is closed."""
PULL_INTERVAL_MS = 1_000
"""For people who watch two windows; an app asks less often."""


def no_window() -> str | None:
    """Why Tk cannot open a window here, or None."""
    try:
        tk.Tk().destroy()
    except tk.TclError as error:
        return str(error)
    return None


class NotesWindow:
    """One device: its store is open as long as its window is."""

    def __init__(
        self, path: Path, *, device: str, user: str, cloud_url: str | None = None, token_file: str | None = None
    ) -> None:
        self.root = tk.Tk()
        self.root.title(f"Notes on {device}")
        self.root.protocol("WM_DELETE_WINDOW", self.close)
        self._callbacks = TkCallbacks(self.root)
        clock, chance = SystemClock(), system_random()
        self._engine = Engine.open(
            path,
            registry=REGISTRY,
            user=user,
            cloud_url=cloud_url,
            token=None if token_file is None else lambda: token_of(user, Path(token_file)),
            settings=Settings(
                pull_interval_ms=PULL_INTERVAL_MS, probe_interval_ms_min=250, probe_interval_ms_max=1_000
            ),
            clock=clock,
            chance=chance,
        )
        self._engine.migrate()
        self._notebook = Notebook(self._engine, user=user, clock=clock, chance=chance)
        self._notes: list[Note] = []
        self._open: Note | None = None
        self._save_later: str | None = None
        self._build()
        self._look()
        self._subscription = self._engine.subscribe(self._callbacks.listener(lambda change: self._look()))
        self._engine.start()

    def show_until_closed(self) -> None:
        """Tk's own loop."""
        self.root.mainloop()

    def close(self) -> None:
        """Save, stop, and close the file; what could not be sent yet is sent next time."""
        self._save()
        self._subscription.close()
        self._callbacks.stop()
        self._engine.close()
        self.root.destroy()

    def _build(self) -> None:
        buttons = tk.Frame(self.root)
        buttons.pack(side="top", fill="x")
        tk.Button(buttons, text="New note", command=self.new_note).pack(side="left")
        tk.Button(buttons, text="Delete", command=self.delete_note).pack(side="left")
        self.status = tk.Label(self.root, anchor="w", relief="sunken")
        self.status.pack(side="bottom", fill="x")
        self.titles = tk.Listbox(self.root, width=28, exportselection=False)
        self.titles.pack(side="left", fill="y")
        self.titles.bind("<<ListboxSelect>>", lambda event: self._choose())
        self.title = tk.Entry(self.root)
        self.title.pack(side="top", fill="x")
        self.text = tk.Text(self.root, width=60, height=20, undo=True, wrap="word")
        self.text.pack(side="top", fill="both", expand=True)
        for field in (self.title, self.text):
            field.bind("<KeyRelease>", lambda event: self._save_soon())

    # What a person does.

    def new_note(self) -> None:
        """An empty note, ready to be typed into."""
        self._save()
        self._open = self._notebook.add()
        self._show_open()
        self._look()
        self.title.focus_set()

    def delete_note(self) -> None:
        """The chosen note goes, here now and everywhere later."""
        if self._open is not None:
            self._notebook.delete(self._open.id)
            self._open = None
            self._show_open()
            self._look()

    def _choose(self) -> None:
        chosen = self.titles.curselection()  # type: ignore[no-untyped-call]  # typeshed has none
        if chosen:
            self._save()
            self._open = self._notes[chosen[0]]
            self._show_open()

    def _save_soon(self) -> None:
        if self._save_later is not None:
            self.root.after_cancel(self._save_later)
        self._save_later = self.root.after(SAVE_AFTER_MS, self._save)

    def _save(self) -> None:
        if self._save_later is not None:
            self.root.after_cancel(self._save_later)
            self._save_later = None
        typed = self._typed()
        if typed is not None and self._open is not None and typed != self._open:
            self._open = self._notebook.save(typed, before=self._open)
            if self._open != typed:
                self._show_open()
            self._look()

    def _typed(self) -> Note | None:
        if self._open is None:
            return None
        return Note(id=self._open.id, title=self.title.get(), text=self.text.get("1.0", "end-1c"))

    # What is seen.

    def _look(self) -> None:
        """Everything again, as the store has it now. What is being typed is left alone."""
        notes = self._notebook.notes()
        if notes != self._notes:
            self._notes = notes
            self.titles.delete(0, "end")
            self.titles.insert("end", *(note.title or "(untitled)" for note in notes))
            self._follow_open()
        line = status_line(self._engine.status())
        if self.status.cget("text") != line:
            self.status.configure(text=line)

    def _follow_open(self) -> None:
        if self._open is None:
            return
        now = next((note for note in self._notes if note.id == self._open.id), None)
        if self._typed() == self._open and now != self._open:
            # Another device wrote it, or deleted it.
            self._open = now
            self._show_open()
        if now is not None:
            self.titles.selection_set(self._notes.index(now))

    def _show_open(self) -> None:
        note = self._open or Note(id="", title="", text="")
        self.title.delete(0, "end")
        self.title.insert(0, note.title)
        self.text.delete("1.0", "end")
        self.text.insert("1.0", note.text)
