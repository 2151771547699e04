"""Lists what measures: every `python -m trust.<name>`, and what it shows."""

import ast
from pathlib import Path


def main() -> None:
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *here.glob("*/__main__.py")]):
        source = path.read_text()
        first = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        name = path.parent.name if path.stem == "__main__" else path.stem
        if path != Path(__file__) and '__name__ == "__main__"' in source:
            print(f"python -m trust.{name:<18} {first}")


if __name__ == "__main__":
    main()
