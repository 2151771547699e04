"""`deeplab-native serve`: a page in the browser to try the CRF on photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native serve --open[/]  on this machine alone, in your browser

[cyan]deeplab-native serve --weights voc.safetensors[/]  a network of your own to choose, too

[cyan]deeplab-native serve --host 0.0.0.0 --port 8080[/]  for everybody who reaches this machine"""

_WEIGHTS = "Weights of another network to choose from; may be given several times."
_HOST = "Address to listen at. Default: reached from this machine alone."
_PORT = "Port. Default: the first that is free from 7860 on; 0: any."
_UPLOAD = "Most megabytes of a file that is uploaded."
_MEGAPIXELS = "Most megapixels of a photograph; larger ones than 0.64 are worked on as a copy."


def run(
    weights: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help=_WEIGHTS, show_default=False)
    ] = None,
    host: Annotated[str, typer.Option(help=_HOST, show_default=False)] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help=_PORT, show_default=False)
    ] = None,
    max_upload: Annotated[int, typer.Option(min=1, metavar="MB", help=_UPLOAD)] = 32,
    max_megapixels: Annotated[float, typer.Option(min=0.01, metavar="MP", help=_MEGAPIXELS)] = 24,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
    threads: options.Threads = None,
) -> None:
    """Serve a page to try it: drop a photograph, label it, move the CRF's parameters, see."""
    from ..web.server import check_gradio, serve
    from . import console

    check_gradio()
    from ..web.limits import Limits

    options.use_threads(threads)
    limits = Limits(upload=max_upload << 20, pixels=int(max_megapixels * 1e6))

    def ready(address: str) -> None:
        console.out.print(f"{address}  (Ctrl-C ends it)")
        if open_browser:
            import webbrowser

            webbrowser.open(address)

    try:
        serve(weights or (), host=host, port=port, limits=limits, ready=ready)
    except KeyboardInterrupt:
        console.err.print("stopped")
        raise typer.Exit(130) from None
