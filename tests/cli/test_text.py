"""Times, sizes, names and tables as people read them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

COUNT = "from orchestrator.cli.text import count_line; print(count_line('environment', 'packages linked', 12, 345))"


def test_a_count_is_whole_on_a_terminal_that_does_not_know_its_width() -> None:
    master, slave = pty.openpty()  # of 0 columns
    try:
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", COUNT], cwd=root, stdout=subprocess.PIPE, stderr=slave, check=True)
    finally:
        os.close(slave)
        os.close(master)
    assert done.stdout == b"  environment  packages linked 12/345\n"
