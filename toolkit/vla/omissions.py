"""Omissions: counts of input that was left out, by reason, so that nothing is dropped silently."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_EXAMPLES = 5
_EXAMPLES_IN_SUMMARY = 3

# The singular and the plural of each reason in the summary.
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
    "time-column": (
        "column that looks like times but is not used",
        "columns that look like times but are not used",
    ),
    "span-outside": ("span outside its video", "spans outside their videos"),
    "span-cut": ("span cut at the end of its video", "spans cut at the end of their videos"),
    "no-such-video": (
        "name in the captions without a video",
        "names in the captions without a video",
    ),
    "ambiguous-name": ("name that fits several videos", "names that fit several videos"),
    "stale-caption": (
        "caption of a video that was replaced",
        "captions of videos that were replaced",
    ),
    "lost-caption": ("caption whose sidecar file is gone", "captions whose sidecar files are gone"),
    "linked-captions": (
        "captions file that is a link to elsewhere",
        "captions files that are links to elsewhere",
    ),
    # Imported features.
    "array": ("array that is not a video's features", "arrays that are not a video's features"),
    # Search.
    "missing-file": ("video whose file is gone", "videos whose files are gone"),
}


@dataclass
class Omissions:
    """Counts of input that was left out, with examples.

    Attributes:
        counts: number of omissions by reason (a key of `REASONS`), in order of first occurrence.
        examples: the first few names by reason, for messages.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str = "", count: int = 1) -> None:
        """Add `count` omissions for `reason`; raise KeyError if `REASONS` lacks it."""
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
        """Add an example for a reason that is already counted, up to the maximum number of examples."""
        examples = self.examples.setdefault(reason, [])
        if example not in examples and len(examples) < _EXAMPLES:
            examples.append(example)

    def to_json(self) -> list[dict[str, Any]]:
        """Return one object for each reason: `reason`, `count`, `examples`."""
        return [
            {"reason": r, "count": n, "examples": self.examples.get(r, [])}
            for r, n in self.counts.items()
        ]

    def summary(self) -> str:
        """Return one line, e.g. `2 files with other suffixes (.txt, .jpg), 1 broken link (a.mp4)`.

        Empty if nothing was left out.
        """
        return ", ".join(self.phrases())

    def __bool__(self) -> bool:
        return bool(self.counts)

    def phrases(self) -> Iterator[str]:
        """Yield the parts of `summary`, one for each reason, with at most three examples."""
        for reason, count in self.counts.items():
            examples = self.examples.get(reason, [])
            names = examples[:_EXAMPLES_IN_SUMMARY]
            more = ", …" if len(examples) > len(names) else ""
            yield f"{count:,} {REASONS[reason][count != 1]}" + (
                f" ({', '.join(names)}{more})" if names else ""
            )
