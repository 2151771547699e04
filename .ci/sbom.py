"""What an installation is made of, as a CycloneDX document (JSON): a release has one of its wheel.

    python .ci/sbom.py ENVIRONMENT/bin/python -o sbom.json

The environment has the wheel and what was installed with it, and nothing else. cyclonedx-bom, in
the environment that runs this, lists its packages; what is compiled into the wheel, which no
package's metadata names, is added here, and the whole is held against CycloneDX's schema.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = "1.6"
# asked of the environment: its package, its native module, and the net in it
ASK = """
import json
from deeplab_native import _C
from deeplab_native.weights.embedded import EMBEDDED
print(json.dumps({"cuda": _C.cuda_version, "for": _C.cuda_architectures,
    "pybind11": _C.pybind11_version, "net": str(EMBEDDED)}))
"""


def compiled_in(built: dict[str, Any]) -> list[dict[str, Any]]:
    """Components of the wheel that are no packages of the environment.

    built: pybind11, its version; cuda, the toolkit's or nothing; for, its GPUs; net, the file.
    """
    found: list[dict[str, Any]] = [
        {
            "type": "library",
            "bom-ref": "compiled-in:pybind11",
            "name": "pybind11",
            "version": built["pybind11"],
            "purl": f"pkg:pypi/pybind11@{built['pybind11']}",
            "licenses": [{"license": {"id": "BSD-3-Clause"}}],
            "description": "headers, compiled into deeplab_native/_C",
        }
    ]
    if built["cuda"]:
        found.append(
            {
                "type": "library",
                "bom-ref": "compiled-in:cudart",
                "supplier": {"name": "NVIDIA Corporation"},
                "name": "CUDA runtime (cudart_static)",
                "version": built["cuda"],
                "licenses": [{"license": {"name": "NVIDIA CUDA Toolkit EULA"}}],
                "description": f"linked into deeplab_native/_C, kernels for {built['for']}",
            }
        )
    net = Path(built["net"])
    found.append(
        {
            "type": "machine-learning-model",
            "bom-ref": "file:embedded-net",
            "name": net.name,
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(net.read_bytes()).hexdigest()}],
            "description": "the network of the package",
        }
    )
    return found


def with_compiled_in(document: dict[str, Any], components: list[dict[str, Any]]) -> dict[str, Any]:
    """The document with more components, of which the package is made."""
    own = next(c for c in document["components"] if c["name"].replace("-", "_") == "deeplab_native")
    refs = [component["bom-ref"] for component in components]
    dependencies = document.setdefault("dependencies", [])
    of_own = next((d for d in dependencies if d["ref"] == own["bom-ref"]), None)
    if of_own is None:
        dependencies.append(of_own := {"ref": own["bom-ref"]})
    of_own["dependsOn"] = sorted({*of_own.get("dependsOn", ()), *refs})
    dependencies += [{"ref": ref} for ref in refs]
    document["components"] += components
    return document


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="of the environment")
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    line = [sys.executable, "-m", "cyclonedx_py", "environment", "--spec-version", SCHEMA]
    line += ["--output-reproducible", asked.python]
    document = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE).stdout)
    built = subprocess.run([asked.python, "-c", ASK], check=True, stdout=subprocess.PIPE).stdout
    document = with_compiled_in(document, compiled_in(json.loads(built)))
    text = json.dumps(document, indent=1) + "\n"
    if errors := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        print(f"not as CycloneDX {SCHEMA} has it: {errors}", file=sys.stderr)
        return 1
    asked.output.write_text(text, encoding="utf-8")
    print(f"{asked.output}: {len(document['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
