import sys
from pathlib import Path

greeting = f"hello, {sys.argv[1]}"
Path("greeting.txt").write_text(greeting + "\n", encoding="utf-8")
print(greeting)
