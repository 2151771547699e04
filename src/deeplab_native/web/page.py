"""The page: its controls by Gradio, three widgets of its own, and what follows what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ..crf import PRESETS, CRFParams
from ..demo.photo import CREDIT, photograph
from .given import MODES
from .sessions import Sessions
from .view import Asked, answer, take_example
from .workspace import MOST_ITERATIONS

_ASSETS = Path(__file__).with_name("assets")
_MODES = dict(zip(("A network", "Scribbles", "A file"), MODES, strict=True))
# label, information, least, most, step
_SLIDERS = (
    ("w1", "weight of appearance", 0, 20, 0.5),
    ("sigma_alpha", "its reach in pixels", 1, 160, 1),
    ("sigma_beta", "its reach in colour", 1, 60, 0.5),
    ("w2", "weight of smoothness", 0, 20, 0.5),
    ("sigma_gamma", "its reach in pixels", 0.5, 20, 0.5),
)
_EMBEDDED = "of the embedded network"
_EMBEDDED_PARAMS = CRFParams(5, 70, 4, 3, 3)
_SCRIBBLES = "for scribbles"
_SCRIBBLES_PARAMS = CRFParams(10, 80, 13, 3, 3)
_ITERATIONS = 10
_PICTURES, _LABELS = "image/png,image/jpeg,image/webp", "image/png,.npy,.npz"
_TITLE = """<h1>deeplab_native</h1>
<p>Sharp outlines for any segmentation: the fully connected CRF, on your own photographs. All of it
is computed on the machine that serves this page.</p>"""


def build(sessions: Sessions, nets: list[str]) -> gr.Blocks:
    """The page of all visitors; nets: the names of the networks."""
    presets = {_EMBEDDED: _EMBEDDED_PARAMS, _SCRIBBLES: _SCRIBBLES_PARAMS, **PRESETS}
    blocks = gr.Blocks(title="deeplab_native", analytics_enabled=False, fill_width=True)
    with blocks:
        secret = gr.State("")
        gr.HTML(_TITLE, elem_id="dn-title", padding=False)
        with gr.Row(equal_height=False, elem_id="dn-columns"):
            with gr.Column(scale=5, min_width=300, elem_id="dn-controls"):
                photo, example, examples = _photo()
                mode, net, draw, labels, panels = _labelling(nets)
                preset, sliders, iterations, confidence = _parameters(list(presets))
            with gr.Column(scale=7, min_width=300, elem_id="dn-side"):
                gr.HTML("<h2>Result</h2>", padding=False)
                result = _widget("result", {}, elem_id="dn-result")

        asked = [secret, mode, net, draw, confidence, *sliders, iterations]

        def refine(
            secret: str, mode: str, net: str, drawn: Any, sure: float, *values: float
        ) -> Any:
            """What the page shows next."""
            *of_crf, iterations = values
            wanted = Asked(_MODES[mode], net, drawn, sure, tuple(of_crf), iterations)
            return answer(sessions, secret, wanted)

        def opened(request: gr.Request) -> tuple[str, dict[str, Any]]:
            key = sessions.open(str(request.session_hash))
            return key, {"secret": key}

        def closed(request: gr.Request) -> None:
            sessions.close(str(request.session_hash))

        def chosen(secret: str, name: str) -> None:
            take_example(sessions, secret, f"{name}.png", examples[name]())

        def preset_chosen(name: str) -> list[float]:
            params: Any = presets[name]
            return [getattr(params, slider[0]) for slider in _SLIDERS]

        def mode_chosen(mode: str) -> list[Any]:
            shown = [gr.update(visible=mode == name) for name in _MODES]
            hard = mode != "A network"
            sure = 0.99 if mode == "Scribbles" else 0.7
            usual = _SCRIBBLES if mode == "Scribbles" else _EMBEDDED
            return [*shown, gr.update(visible=hard, value=sure), usual]

        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        again: dict[str, Any] = {"fn": refine, "inputs": asked, "outputs": result, **hidden}
        blocks.load(opened, None, [secret, result], **hidden)
        blocks.unload(closed)
        example.click(chosen, [secret, gr.State("grace_hopper")], None, **hidden).then(**again)
        photo.upload(**again)
        labels.upload(**again)
        draw.submit(**again, trigger_mode="always_last")
        net.input(**again)
        mode.input(mode_chosen, mode, [*panels, confidence, preset], **hidden).then(
            preset_chosen, preset, sliders, **hidden
        ).then(**again)
        preset.input(preset_chosen, preset, sliders, **hidden).then(**again)
        # while they move: of the requests that wait, the last alone is sent
        moving = [slider.input for slider in (*sliders, iterations, confidence)]
        gr.on(moving, **again, trigger_mode="always_last")
    return blocks


def style() -> dict[str, Any]:
    """Of `mount_gradio_app`: fonts of the visitor's own machine, our colours."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    theme = gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=fonts,
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    )
    # in the head as it is: Gradio's `css` gets other selectors, not all of which work
    css = (_ASSETS / "page.css").read_text(encoding="utf-8")
    head = f'<meta name="color-scheme" content="light dark"><style>{css}</style>'
    return {"theme": theme, "head": head}


def _photo() -> tuple[Any, gr.Button, dict[str, Any]]:
    gr.HTML("<h2>1. Photograph</h2>", padding=False)
    drop = _widget(
        "drop",
        None,
        "photo",
        elem_id="dn-photo",
        what="photo",
        accept=_PICTURES,
        prompt="Drop a photograph, or choose one",
        hint="PNG, JPEG or WebP",
    )
    example = gr.Button("Take the example", elem_id="dn-example", variant="primary")
    gr.HTML(f"<p class='dn-hint'>{CREDIT}</p>", padding=False)
    return drop, example, {"grace_hopper": photograph}


def _labelling(nets: list[str]) -> tuple[gr.Radio, gr.Dropdown, Any, Any, list[gr.Column]]:
    gr.HTML("<h2>2. Labelling</h2>", padding=False)
    mode = gr.Radio(
        list(_MODES),
        value="A network",
        label="Where the labels come from",
        elem_id="dn-mode",
    )
    with gr.Column(visible=True) as by_net:
        net = gr.Dropdown(nets, value=nets[0], label="Network", elem_id="dn-net")
    with gr.Column(visible=False) as by_hand:
        draw = _widget("draw", None, elem_id="dn-draw")
    with gr.Column(visible=False) as by_file:
        labels = _widget(
            "drop",
            None,
            "labels",
            elem_id="dn-labels",
            what="labels",
            accept=_LABELS,
            prompt="Drop a mask, labels or scores, or choose a file",
            hint="PNG of labels (255 = unsure), or scores (L, H, W) as .npy or .npz",
        )
    return mode, net, draw, labels, [by_net, by_hand, by_file]


def _parameters(
    presets: list[str],
) -> tuple[gr.Dropdown, list[gr.Slider], gr.Slider, gr.Slider]:
    gr.HTML("<h2>3. Parameters</h2>", padding=False)
    preset = gr.Dropdown(presets, value=presets[0], label="Values", elem_id="dn-preset")
    with gr.Row(elem_id="dn-sliders"):
        sliders = [
            gr.Slider(
                least,
                most,
                getattr(_EMBEDDED_PARAMS, name),
                step=step,
                label=name,
                info=info,
                min_width=150,
                buttons=[],
                elem_id=f"dn-{name}",
            )
            for name, info, least, most, step in _SLIDERS
        ]
        iterations = gr.Slider(
            0,
            MOST_ITERATIONS,
            _ITERATIONS,
            step=1,
            label="iterations",
            info="of mean field",
            min_width=150,
            buttons=[],
            elem_id="dn-iterations",
        )
    confidence = gr.Slider(
        0.51,
        0.999,
        0.7,
        step=0.001,
        label="confidence",
        info="how often the labels that are given are right",
        visible=False,
        buttons=[],
        elem_id="dn-confidence",
    )
    return preset, sliders, iterations, confidence


def _widget(name: str, value: Any, key: str = "", elem_id: str = "", **texts: str) -> Any:
    """One of `assets`: HTML, and what makes it move; {{texts}} of the HTML are replaced."""
    html = (_ASSETS / f"{name}.html").read_text(encoding="utf-8")
    for place, text in texts.items():
        html = html.replace("{{" + place + "}}", text)
    script = (_ASSETS / f"{name}.js").read_text(encoding="utf-8")
    return gr.HTML(
        value, html_template=html, js_on_load=script, apply_default_css=False, elem_id=elem_id
    )
