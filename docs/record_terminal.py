"""Record commands and their output as an SVG picture of a terminal of 80 columns.

    cd ~/Videos
    python docs/record_terminal.py session.svg "vla extract . --model offline" 'vla search "a dog"'

Commands run one after the other in the current folder, by the shell. The picture shows what they
write to standard output, which is a terminal for them, then what they write to standard error, which
is a pipe: progress bars are left out. POSIX only.
"""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 80, 24


def run(command: str) -> str:
    """Return what the command writes, with the escape sequences for colours."""
    import fcntl
    import termios

    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    with (
        tempfile.TemporaryFile() as notes,
        subprocess.Popen(
            command, shell=True, stdout=child, stderr=notes, env=environment
        ) as process,
    ):
        os.close(child)
        output = b""
        while True:
            try:
                block = os.read(parent, 65536)
            except OSError:  # the other end is closed
                break
            if not block:
                break
            output += block
        process.wait()
        notes.seek(0)
        output += notes.read()
    os.close(parent)
    return output.decode("utf-8", "replace").replace("\r\n", "\n")


def main() -> None:
    """Run the commands of the command line and write the picture."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for number, command in enumerate(sys.argv[2:]):
        console.print(Text(("\n" if number else "") + f"$ {command}", style="bold green"))
        console.print(Text.from_ansi(run(command)), end="")
    picture = console.export_svg(title="vla")
    # The fonts would be fetched from a server; the picture falls back to a font of the system.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    Path(sys.argv[1]).write_text(picture, "utf-8")


if __name__ == "__main__":
    main()
