"""The site's search finds every word: lunr, which searches, mixes words with digits up.

lunr keeps the words of all pages as a graph, whose nodes are shared where what follows is the same.
Whether it is the same it asks of `toString`, which writes the letter of every edge and the number
of the node that it leads to, one behind the other: an edge "1" to node 2 and an edge "3" to node 4
are written as an edge "1" to node 234 is. Where two such nodes meet, which of 60 sites like this
one with some words more or less happened in five, a search that passes there fails, or finds
nothing. A comma behind each number tells them apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_UNAMBIGUOUS = """
self.lunr.TokenSet.prototype.toString = function () {
  if (this._str) return this._str;  // a node that is kept changes no more
  const edges = Object.keys(this.edges).sort().map(label => label + this.edges[label].id);
  return (this.final ? "1" : "0") + edges.join(",");
};
"""


def on_post_build(*, config: Any) -> None:
    """Appends it to the script of the worker that searches; MkDocs calls this once."""
    folder = Path(config.site_dir, "assets", "javascripts", "workers")
    (script,) = folder.glob("search.*.min.js")
    text = script.read_text(encoding="utf-8")
    code, mark, source_map = text.rpartition("//# sourceMappingURL=")
    if "TokenSet.prototype.toString" not in code:
        raise RuntimeError(f"{script.name} is another search than this is for")
    script.write_text(code + _UNAMBIGUOUS + mark + source_map, encoding="utf-8")
