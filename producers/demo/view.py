"""The demo on a screen: streams in three colours while they grow, or plain lines where there is no terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from dsdq.client import TokenKind
from producers.demo.events import Began, Event, Finished, Spoke

STYLES = {
    TokenKind.ACCEPTED: "green",
    TokenKind.CORRECTION: "red",
    TokenKind.BONUS: "yellow",
    TokenKind.TARGET: "cyan",
}
LEGEND = "[green]accepted[/] [red]correction[/] [yellow]bonus[/] [cyan]target alone[/]"
REFRESHES_PER_S = 10


@dataclass(slots=True)
class Stream:
    """One prompt's text as it grows."""

    prompt: str
    device: int
    pieces: list[tuple[str, TokenKind]] = field(default_factory=list)
    done: bool = False

    def text(self, lines: int) -> Text:
        """Return prompt and tokens, coloured, cut to the last ``lines`` lines."""
        text = Text().append(self.prompt, style="bold")
        for piece, kind in self.pieces:
            text.append(piece, style=STYLES[kind])
        rows = text.split("\n", allow_blank=True)
        return Text("\n").join(rows[-lines:])


class View:
    """Takes the devices' events and shows them."""

    def __init__(self, console: Console, prompts: list[str], devices: int) -> None:
        self.console = console
        self.streams = [Stream(prompt, index % devices) for index, prompt in enumerate(prompts)]
        self.devices = devices
        self._kinds = [Counter[TokenKind]() for _ in range(devices)]
        self._started = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=REFRESHES_PER_S, get_renderable=self.render)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def take(self, event: Event) -> None:
        """Show what a device said."""
        if isinstance(event, Began):
            self._started = self._started or perf_counter()
        elif isinstance(event, Spoke):
            self.streams[event.prompt].pieces.append((event.text, event.kind))
            self._kinds[event.device][event.kind] += 1
        elif isinstance(event, Finished):
            stream = self.streams[event.prompt]
            stream.done = True
            if self._live is None:
                tail = "".join(piece for piece, _ in stream.pieces)
                self.console.print(
                    f"[device {event.device}] {stream.prompt!r} -> {tail!r}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
        else:
            self.console.print(f"[device {event.device}] failed: {event.message}", markup=False, highlight=False)

    def figures(self, device: int) -> str:
        """Return one line of a device's live figures."""
        kinds = self._kinds[device]
        tokens = kinds.total()
        rate = tokens / max(perf_counter() - self._started, 1e-9)
        accepted = kinds[TokenKind.ACCEPTED] / tokens if tokens else 0.0
        return f"device {device}: {tokens:4d} tokens  {rate:6.1f} tokens/s  {accepted:4.0%} of them drafted here"

    def render(self) -> Group:
        """Return the whole screen."""
        height = max(4, (self.console.height - self.devices - 3) // max(len(self.streams), 1) - 2)
        panels = [
            Panel(stream.text(height), title=f"device {stream.device}", title_align="left", height=height + 2)
            for stream in self.streams
        ]
        return Group(*panels, Text.from_markup(LEGEND), *(Text(self.figures(d)) for d in range(self.devices)))
