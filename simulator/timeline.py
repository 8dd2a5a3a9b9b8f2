"""One world as a picture: a page that opens anywhere, with everything in it. No scripts, nothing from outside.

For each device a band: its app's version as colour, its queue as a hill, what happened to it as marks. Calls are
lines to the cloud; a cut line is grey, and red where nothing came through.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

from simulator.world.ground import Event
from simulator.world.outcome import Outcome

WIDTH, LEFT, RIGHT, TOP = 1_600, 130, 30, 40
BAND, GAP, CLOUD = 92, 34, 56
"""Heights: of a device, between devices, of the cloud."""
HILL = 46
"""The highest queue."""
TICKS = 10
FAULTS_SHARE = 0.8
"""So much of the width has the first phase."""

VERSION_COLOURS = ("#eef4fb", "#e9f5ea", "#fdf3e1", "#f5eafa", "#e8f6f5", "#faecec")
MARKS = {
    "power_cut": ("#c62828", "⚡", "the power goes"),
    "upgrades": ("#2e7d32", "▲", "the app is upgraded"),
    "user": ("#6a1b9a", "☺", "another user signs in"),
    "clock_jumped": ("#ef6c00", "◷", "the clock jumps"),
    "cloned": ("#ad1457", "‖", "the store is copied"),
    "restored": ("#c62828", "⟲", "the cloud is restored from its copy"),
    "copied": ("#455a64", "‖", "the cloud is copied"),
    "forgets_tombstones": ("#455a64", "✂", "old deletions are forgotten"),
    "decides": ("#6d4c41", "?", "a person looks at the quarantine"),
    "raised": ("#c62828", "✖", "the engine raised"),
}
"""Colour, sign, and what it means."""
OTHER_FAULT = ("#c62828", "●", "another fault")
QUIET = frozenset(
    {"writes", "round", "sends", "hears", "partition", "connected", "heals", "within", "has", "decides"}
)
"""Kinds that have a form of their own, or none."""
ROUND_GOOD, ROUND_BAD = "#1565c0", "#ef6c00"


def write_timeline(outcome: Outcome, path: Path) -> None:
    """The page of one world."""
    path.write_text(timeline(outcome), encoding="utf-8")


def timeline(outcome: Outcome) -> str:
    """The whole page."""
    drawing = _Drawing(outcome)
    said = "every promise held" if outcome.broken is None else ": ".join(outcome.broken)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>World {outcome.seed}</title>"
        "<style>body{font:14px system-ui,sans-serif;margin:24px;color:#222}svg{display:block;max-width:100%}"
        "text{font:11px system-ui,sans-serif;fill:#333}.small{font-size:10px;fill:#666}"
        f".said{{color:{'#2e7d32' if outcome.broken is None else '#c62828'};white-space:pre-wrap}}"
        "details{margin-top:16px}pre{font-size:11px}.key span{margin-right:18px}</style>"
        f"<h1>World {outcome.seed}</h1><p class=said>{escape(said)}</p>"
        f"<p>{escape(_about(outcome))}</p>{''.join(drawing.svg())}<p class=key>{''.join(_legend())}</p>"
        f"<details><summary>All {len(outcome.trace)} events</summary><pre>"
        f"{escape(chr(10).join(map(_line, outcome.trace)))}</pre></details></html>\n"
    )


def _about(outcome: Outcome) -> str:
    plan = ", ".join(f"{name} {value}" for name, value in outcome.plan.to_json().items())
    left_out = sum(number in outcome.skip for number in outcome.drawn)
    return f"{plan}. {len(outcome.drawn)} actions and faults, {left_out} of them left out. {outcome.again}"


def _line(event: Event) -> str:
    return str(event) if event.outbox_depth is None else f"{event}  [{event.outbox_depth} wait, {event.version}]"


def _legend() -> Iterator[str]:
    yield "<span>hill: entries that wait</span><span>│ an edit</span>"
    yield f'<span style="color:{ROUND_GOOD}">▬ a round that came to its end</span>'
    yield f'<span style="color:{ROUND_BAD}">▬ a round that failed</span>'
    yield "<span>grey line: a call; dashed red: nothing came back</span><span>hatched: cut off</span>"
    for colour, sign, meaning in (*MARKS.values(), OTHER_FAULT):
        yield f'<span><b style="color:{colour}">{sign}</b> {escape(meaning)}</span>'


class _Drawing:
    """Time goes to the right. What comes after the faults takes seconds; it has its own scale."""

    def __init__(self, outcome: Outcome) -> None:
        self._events = [event for event in outcome.trace if event.kind != "has"]
        names = sorted({event.who for event in self._events} - {"cloud", "network", "person"})
        self._top = {name: TOP + CLOUD + GAP + place * (BAND + GAP) for place, name in enumerate(names)}
        self._height = TOP + CLOUD + GAP + len(names) * (BAND + GAP) + 20
        self._end_ms = max((event.at_ms for event in self._events), default=1) or 1
        self._healed_ms = next((event.at_ms for event in self._events if event.kind == "heals"), self._end_ms)
        self._versions = sorted({event.version for event in self._events if event.version})
        self._depth_max = max((event.outbox_depth or 0 for event in self._events), default=0) or 1

    def svg(self) -> Iterator[str]:
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self._height}" width="{WIDTH}">'
            '<defs><pattern id="cut" width="7" height="7" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><line x1="0" y1="0" x2="0" y2="7" stroke="#c62828" stroke-width="1.6" '
            'stroke-opacity="0.4"/></pattern></defs>'
        )
        yield from self._axis()
        yield from self._cloud()
        for name, top in self._top.items():
            own = [event for event in self._events if event.who == name]
            yield from self._band(name, top, own)
        yield from self._calls()
        for name, top in self._top.items():
            yield from self._marks([event for event in self._events if event.who == name], top=top)
        yield "</svg>"

    def _x(self, at_ms: int) -> float:
        faults, after = (WIDTH - LEFT - RIGHT) * FAULTS_SHARE, (WIDTH - LEFT - RIGHT) * (1 - FAULTS_SHARE)
        if at_ms <= self._healed_ms:
            return round(LEFT + faults * at_ms / max(self._healed_ms, 1), 1)
        return round(LEFT + faults + after * (at_ms - self._healed_ms) / (self._end_ms - self._healed_ms), 1)

    def _axis(self) -> Iterator[str]:
        for at_ms in [self._healed_ms * tick // TICKS for tick in range(TICKS)] + [self._end_ms]:
            x = self._x(at_ms)
            yield f'<line x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{self._height - 14}" stroke="#ddd"/>'
            yield f'<text x="{x}" y="{TOP - 14}" text-anchor="middle" class="small">{_clock(at_ms)}</text>'
        x = self._x(self._healed_ms)
        line = f'x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{self._height - 14}"'
        yield f'<line {line} stroke="#2e7d32" stroke-width="2"/>'
        yield f'<text x="{x}" y="{TOP - 14}" text-anchor="middle" style="fill:#2e7d32">all faults end</text>'

    def _cloud(self) -> Iterator[str]:
        yield (
            f'<rect x="{LEFT}" y="{TOP + 4}" width="{WIDTH - LEFT - RIGHT}" height="{CLOUD - 8}" rx="6" '
            'fill="#e3eaf2"/>'
            f'<text x="{LEFT - 12}" y="{TOP + CLOUD / 2 + 4}" text-anchor="end">cloud</text>'
        )
        yield from self._marks([event for event in self._events if event.who == "cloud"], top=TOP - BAND // 3)

    def _band(self, name: str, top: int, events: Sequence[Event]) -> Iterator[str]:
        yield f'<text x="{LEFT - 12}" y="{top + BAND / 2}" text-anchor="end"><tspan font-weight="bold">{escape(name)}'
        yield "</tspan></text>"
        for begins, ends, version in _spans(events, end_ms=self._end_ms):
            colour = VERSION_COLOURS[self._versions.index(version) % len(VERSION_COLOURS)]
            x, width = self._x(begins), self._x(ends) - self._x(begins)
            yield f'<rect x="{x}" y="{top}" width="{width:.1f}" height="{BAND}" fill="{colour}"/>'
            yield f'<text x="{x + 4}" y="{top + 12}" class="small">{escape(version)}</text>'
        yield from self._cuts(name, top)
        yield self._hill(events, top)

    def _cuts(self, name: str, top: int) -> Iterator[str]:
        """When the line of a device was cut."""
        begun: int | None = None
        for event in self._events:
            if event.who != "network" or event.kind not in ("partition", "connected"):
                continue
            if event.detail.partition(" ")[0] != name:
                continue
            if begun is not None:
                yield self._hatched(begun, event.at_ms, top)
            begun = event.at_ms if event.kind == "partition" else None
        if begun is not None:
            yield self._hatched(begun, self._healed_ms, top)

    def _hatched(self, begins_ms: int, ends_ms: int, top: int) -> str:
        x, width = self._x(begins_ms), self._x(ends_ms) - self._x(begins_ms)
        return f'<rect x="{x}" y="{top - GAP / 2}" width="{width:.1f}" height="{GAP / 2}" fill="url(#cut)"/>'

    def _hill(self, events: Sequence[Event], top: int) -> str:
        """How many entries wait, as steps."""
        ground = top + BAND
        known = [(event.at_ms, event.outbox_depth) for event in events if event.outbox_depth is not None]
        if not known:
            return ""
        points = [f"{self._x(known[0][0])},{ground}"]
        for (at_ms, depth), (until_ms, _) in pairwise([*known, (known[-1][0], 0)]):
            y = ground - HILL * depth / self._depth_max
            points += [f"{self._x(at_ms)},{y:.1f}", f"{self._x(until_ms)},{y:.1f}"]
        points.append(f"{self._x(known[-1][0])},{ground}")
        highest = max(depth for _, depth in known)
        return (
            f'<polygon points="{" ".join(points)}" fill="#78909c" fill-opacity="0.55"/>'
            f'<text x="{LEFT - 12}" y="{top + BAND / 2 + 16}" text-anchor="end" class="small">at most {highest} wait'
            "</text>"
        )

    def _calls(self) -> Iterator[str]:
        """From the device to the cloud; told by what the cloud heard."""
        waiting: dict[str, Event] = {}
        for event in self._events:
            if event.kind == "sends":
                if event.who in waiting:
                    yield self._call(waiting[event.who], None)
                waiting[event.who] = event
            elif event.kind == "hears":
                name = event.detail.rpartition(" ")[2]
                if name in self._top:
                    yield self._call(waiting.pop(name, event), event)
        for left in waiting.values():
            yield self._call(left, None)

    def _call(self, sent: Event, heard: Event | None) -> str:
        name = sent.who if sent.who in self._top else (heard or sent).detail.rpartition(" ")[2]
        x, y = self._x(sent.at_ms), self._top[name]
        tells = f"<title>{escape(str(sent))}</title>"
        if heard is None:
            place = f'x1="{x}" y1="{y}" x2="{x}" y2="{y - GAP / 2}"'
            return f'<line {place} stroke="#c62828" stroke-dasharray="2 2">{tells}</line>'
        colour = "#c62828" if len(sent.detail.split()) > 1 else "#90a4ae"
        place = f'x1="{x}" y1="{y}" x2="{self._x(heard.at_ms)}" y2="{TOP + CLOUD - 4}"'
        return f'<line {place} stroke="{colour}" stroke-opacity="0.35">{tells}</line>'

    def _marks(self, events: Iterable[Event], *, top: int) -> Iterator[str]:
        for event in events:
            x, tells = self._x(event.at_ms), f"<title>{escape(_line(event))}</title>"
            if event.kind == "writes":
                place = f'x1="{x}" y1="{top + BAND - 10}" x2="{x}" y2="{top + BAND}"'
                yield f'<line {place} stroke="#111" stroke-width="1.4">{tells}</line>'
            elif event.kind == "round":
                colour = ROUND_GOOD if event.detail.startswith(("drained", "at_head")) else ROUND_BAD
                yield f'<rect x="{x - 1.5}" y="{top + 18}" width="3" height="8" fill="{colour}">{tells}</rect>'
            elif event.kind in MARKS or event.kind not in QUIET:
                colour, sign, _ = MARKS.get(event.kind, OTHER_FAULT)
                place = f'x="{x}" y="{top + 40}" text-anchor="middle" style="fill:{colour};font-size:16px"'
                yield f"<text {place}>{sign}{tells}</text>"


def _spans(events: Sequence[Event], *, end_ms: int) -> Iterator[tuple[int, int, str]]:
    """From when to when a device had which version."""
    begins, present = 0, ""
    for event in events:
        if event.version and event.version != present:
            if present:
                yield begins, event.at_ms, present
                begins = event.at_ms
            present = event.version
    if present:
        yield begins, end_ms, present


def _clock(at_ms: int) -> str:
    minutes, seconds = divmod(at_ms // 1_000, 60)
    return f"{minutes}:{seconds:02}"
