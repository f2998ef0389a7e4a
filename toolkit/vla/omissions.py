"""Counts of input that a stage left out, by reason, so that nothing is dropped in silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_EXAMPLES = 5
_EXAMPLES_IN_SUMMARY = 3

# Each reason: its singular and its plural, as the summary line words them.
REASONS: dict[str, tuple[str, str]] = {
    # Files and folders.
    "other-suffix": ("file with another suffix", "files with other suffixes"),
    "unreadable-folder": ("folder that cannot be read", "folders that cannot be read"),
    "linked-folder": ("link to a folder not followed", "links to folders not followed"),
    "broken-link": ("broken link", "broken links"),
    "hidden": ("hidden file or folder", "hidden files or folders"),
    "special-file": ("pipe, socket or device", "pipes, sockets or devices"),
    "no-video": ("file without video", "files without video"),
    # Frames.
    "dropped-frames": ("frame dropped", "frames dropped"),
    "gap": ("gap longer than the sampling step", "gaps longer than the sampling step"),
    # Captions.
    "captions-file": ("captions file not used", "captions files not used"),
    "row": ("row not kept", "rows not kept"),
    "cue": ("cue not kept", "cues not kept"),
    "time-column": ("column that looks like times but is not used", "columns that look like times but are not used"),
    "span-outside": ("span outside its video", "spans outside their videos"),
    "span-cut": ("span cut at the end of its video", "spans cut at the end of their videos"),
    "no-such-video": ("name in the captions without a video", "names in the captions without a video"),
    "ambiguous-name": ("name that fits several videos", "names that fit several videos"),
    "stale-caption": ("caption of a video that was replaced", "captions of videos that were replaced"),
    "lost-caption": ("caption whose file beside the video is gone", "captions whose files beside the videos are gone"),
    "linked-captions": ("captions file that is a link to elsewhere", "captions files that are links to elsewhere"),
    # Released features.
    "array": ("array that is not a video's features", "arrays that are not a video's features"),
    # Search.
    "missing-file": ("video whose file is gone", "videos whose files are gone"),
}


@dataclass
class Omissions:
    """What a stage left out.

    Attributes:
        counts: how many of each reason (a key of `REASONS`), in the order in which the reasons first occurred.
        examples: for each reason the first few names, for the message.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str = "", count: int = 1) -> None:
        """Count `count` more of `reason`; raises KeyError for a reason that `REASONS` does not have."""
        REASONS[reason]
        if count <= 0:
            return
        self.counts[reason] = self.counts.get(reason, 0) + count
        examples = self.examples.setdefault(reason, [])
        if example and example not in examples and len(examples) < _EXAMPLES:
            examples.append(example)

    def merge(self, other: Omissions) -> None:
        """Add the counts and examples of `other`."""
        for reason, count in other.counts.items():
            self.add(reason, "", count)
            for example in other.examples.get(reason, []):
                self.add_example(reason, example)

    def add_example(self, reason: str, example: str) -> None:
        """Remember `example` for a reason that is counted already, while there is room for it."""
        examples = self.examples.setdefault(reason, [])
        if example not in examples and len(examples) < _EXAMPLES:
            examples.append(example)

    def to_json(self) -> list[dict[str, Any]]:
        """One object a reason: `reason`, `count`, `examples`."""
        return [{"reason": r, "count": n, "examples": self.examples.get(r, [])} for r, n in self.counts.items()]

    def summary(self) -> str:
        """One line, e.g. `30 files with other suffixes (.txt, .jpg), 1 folder that cannot be read (shut)`; empty if nothing."""
        return ", ".join(self.phrases())

    def __bool__(self) -> bool:
        return bool(self.counts)

    def phrases(self) -> Iterator[str]:
        """The parts of `summary`, one a reason, each with at most three examples."""
        for reason, count in self.counts.items():
            examples = self.examples.get(reason, [])
            names = examples[:_EXAMPLES_IN_SUMMARY]
            more = ", …" if len(examples) > len(names) else ""
            yield f"{count:,} {REASONS[reason][count != 1]}" + (f" ({', '.join(names)}{more})" if names else "")
