"""Lists what measures: every `python -m trust.<name>`, and what it shows."""

import ast
from pathlib import Path


def main() -> None:
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_text()
        first = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        if path.stem != "__main__" and '__name__ == "__main__"' in source:
            print(f"python -m trust.{path.stem:<18} {first}")


if __name__ == "__main__":
    main()
