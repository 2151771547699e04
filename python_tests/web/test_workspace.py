"""What is computed when: once, and only what changed; and that it is what the library computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import CRFParams, MeanField, dense_crf, refine, viz
from deeplab_native.jobs import CRFSettings
from deeplab_native.web.scribbles import Scribbles
from deeplab_native.web.workspace import Workspace
from python_tests.web.web_cases import (
    DRAWN,
    HEIGHT,
    LIMITS,
    VALUES,
    WIDTH,
    Net,
    photo,
    photo_file,
    scores,
    workspace,
)

PARAMS = CRFParams(*VALUES)
SCRIBBLES = Scribbles.read(DRAWN)


@pytest.fixture
def crf_runs(monkeypatch):
    """Parameters and iterations of every CRF that is computed."""
    runs, compute = [], CRFSettings.refine

    def counted(self, unary, image):
        runs.append((self.params, self.iterations))
        return compute(self, unary, image)

    monkeypatch.setattr(CRFSettings, "refine", counted)
    return runs


def by_net(space: Workspace, name="a"):
    space.label("network", name, Scribbles(), 0.9)
    return space.refine(PARAMS, 5)


def test_the_result_is_that_of_the_library():
    space = workspace()
    space.set_photo(photo(), "photo.png")
    found = by_net(space)
    image = torch.from_numpy(photo()).permute(2, 0, 1)[None]
    unary = -torch.from_numpy(scores())[None].log_softmax(1)
    q = dense_crf(unary, image, PARAMS, iterations=5)[0]
    assert torch.equal(found.q, q)
    assert np.array_equal(found.after, q.argmax(0).numpy())
    assert np.array_equal(found.before, scores().argmax(0))
    assert (found.before != found.after).any() and found.seconds > 0


def test_moving_a_slider_costs_the_crf_alone(crf_runs):
    space = workspace()
    space.set_photo(photo(), "photo.png")
    first = by_net(space)
    other = space.refine(replace(PARAMS, w1=8), 5)
    assert other is not first and space.version == 2
    space.label("network", "a", Scribbles(), 0.9)
    assert space.refine(replace(PARAMS, w1=8), 5) is other  # nothing has changed
    assert space.net.calls == ["a"]
    assert crf_runs == [(PARAMS, 5), (replace(PARAMS, w1=8), 5)]


def test_a_labelling_is_kept_while_others_are_looked_at(crf_runs):
    space = workspace()
    space.set_photo(photo(), "photo.png")
    first = by_net(space)
    space.label("scribbles", "a", SCRIBBLES, 0.9)
    drawn = space.refine(PARAMS, 5)
    assert drawn.q.shape[0] == 2 and len(crf_runs) == 2
    assert torch.equal(by_net(space).q, first.q)
    assert space.net.calls == ["a"]
    by_net(space, "b")
    assert space.net.calls == ["a", "b"]


def test_another_photograph_drops_all_of_the_last_one():
    space = workspace()
    space.set_photo(photo(), "photo.png")
    by_net(space)
    space.set_photo(photo(50, 70), "other.png")
    assert space.refined is None and space.labelling is None and space.photos == 2
    with pytest.raises(ValueError, match="labelling: none yet"):
        space.refine(PARAMS, 5)
    assert by_net(space).after.shape == (50, 70)
    assert space.net.calls == ["a", "a"]


def test_scribbles_are_those_of_refine():
    space = workspace()
    space.set_photo(photo(), "photo.png")
    space.label("scribbles", "", SCRIBBLES, 0.9)
    found = space.refine(PARAMS, 5)
    drawn = SCRIBBLES.draw(HEIGHT, WIDTH)
    assert np.array_equal(found.before, drawn)
    expected, q = refine(
        photo(), drawn, confidence=0.9, params=PARAMS, iterations=5, return_probabilities=True
    )
    assert np.array_equal(found.after, expected) and np.array_equal(found.q.numpy(), q)
    assert 255 not in found.after
    space.label("scribbles", "", SCRIBBLES, 0.6)
    assert space.refined is None  # of another confidence
    assert space.labelling.name(1) == "right" and space.labelling.name(7) == "label 7"


def test_a_single_label_is_everywhere():
    one = Scribbles(SCRIBBLES.labels, SCRIBBLES.strokes[1:])
    space = workspace()
    space.set_photo(photo(), "photo.png")
    space.label("scribbles", "", one, 0.9)
    assert (space.refine(PARAMS, 5).after == 1).all()
    assert (space.belief(1, 5) == 255).all() and (space.score_map(1) == 1).all()


@pytest.mark.parametrize("name", ["labels.png", "scores.npy", "scores.npz"])
def test_files(tmp_path, name):
    space = workspace()
    space.open_photo(photo_file(tmp_path), "photo.png")
    path = tmp_path / "file"
    with path.open("wb") as file:
        if name.endswith("png"):
            labels = scores().argmax(0).astype(np.uint8)
            labels[:5] = 255
            Image.fromarray(labels).save(file, "PNG")
        elif name.endswith("npz"):
            np.savez(file, scores())
        else:
            np.save(file, scores())
    space.open_labels(path, name, 0.8)
    space.label("file", "", Scribbles(), 0.8)
    found = space.refine(PARAMS, 5)
    given = labels if name.endswith("png") else scores()
    expected = refine(photo(), given, confidence=0.8, params=PARAMS, iterations=5)
    assert np.array_equal(found.after, expected)
    assert space.labelling.file == name


def test_a_large_photograph_is_worked_on_as_a_copy(tmp_path):
    space = workspace()
    space.open_photo(photo_file(tmp_path, height=200, width=300), "photo.png")
    assert space.photo.size == (200, 300) and space.photo.is_copy
    assert space.photo.pixels.shape == (82, 122, 3)
    np.save(tmp_path / "scores.npy", scores(200, 300))
    space.open_labels(tmp_path / "scores.npy", "scores.npy", 0.8)  # of the photograph itself
    labels = scores(200, 300).argmax(0).astype(np.uint8)
    space.label("file", "", Scribbles(), 0.8)
    assert space.refine(PARAMS, 3).after.shape == (82, 122)
    viz.save_label_png(tmp_path / "labels.png", labels)
    space.open_labels(tmp_path / "labels.png", "labels.png", 0.8)
    space.label("file", "", Scribbles(), 0.8)
    assert space.refine(PARAMS, 3).before.shape == (82, 122)


def test_beliefs_of_every_iteration_are_those_of_mean_field(monkeypatch):
    space = workspace()
    space.set_photo(photo(), "photo.png")
    found = by_net(space)
    image = torch.from_numpy(photo()).permute(2, 0, 1)[None]
    crf = MeanField.from_image(-torch.from_numpy(scores())[None].log_softmax(1), image, PARAMS)
    q, steps, step = crf.start(), [], MeanField.step
    monkeypatch.setattr(MeanField, "step", lambda self, q: steps.append(1) or step(self, q))
    for i in range(6):
        assert np.array_equal(space.belief(1, i), (q[0, 1] * 255).round().byte().numpy())
        q = step(crf, q)
    assert len(steps) == 5  # for all of them together
    assert np.abs(space.belief(1, 5) / 255 - found.q[1].numpy()).max() < 0.003
    space.refine(PARAMS, 2)
    space.belief(1, 2)
    with pytest.raises(ValueError, match="iteration 3: expected 0 to 2"):
        space.belief(1, 3)
    with pytest.raises(ValueError, match="label 9: expected one of 0, 1, 2"):
        space.belief(9, 0)


def test_score_maps_say_which_label_is_ahead():
    space = workspace()
    space.set_photo(photo(), "photo.png")
    by_net(space)
    values = np.sort(scores(), axis=0)
    for label in range(3):
        ahead = space.score_map(label)
        assert np.array_equal(ahead > 0, scores().argmax(0) == label)
        best = scores().argmax(0) == label
        assert np.allclose(
            ahead[best], ((values[-1] - values[-2])[best] / 10).clip(0, 1), atol=1e-6
        )


def test_what_is_not_there_is_said(tmp_path):
    space = workspace()
    for ask in (lambda: by_net(space), lambda: space.open_labels(tmp_path, "a", 0.8)):
        with pytest.raises(ValueError, match="photograph: none yet"):
            ask()
    space.set_photo(photo(), "photo.png")
    for mode, complaint in (
        ("file", "no file yet"),
        ("scribbles", "nothing is drawn yet"),
        ("magic", "expected one of network, scribbles, file, got 'magic'"),
    ):
        with pytest.raises(ValueError, match=complaint):
            space.label(mode, "a", Scribbles(SCRIBBLES.labels), 0.9)
    with pytest.raises(ValueError, match="network 'none'"):
        space.label("network", "none", Scribbles(), 0.9)
    with pytest.raises(ValueError, match="confidence"):
        space.label("scribbles", "", SCRIBBLES, 1.5)


def test_a_file_that_cannot_be_used_changes_nothing(tmp_path):
    space = workspace()
    space.set_photo(photo(), "photo.png")
    before = by_net(space)
    (tmp_path / "a").write_bytes(photo_file(tmp_path).read_bytes()[:2000])
    with pytest.raises(ValueError, match="damaged or cut off"):
        space.open_photo(tmp_path / "a", "a")
    np.save(tmp_path / "b.npy", scores(7, 9))
    with pytest.raises(ValueError, match="match for the image"):
        space.open_labels(tmp_path / "b.npy", "b.npy", 0.8)
    assert space.refined is before and not space.has_file


def test_too_many_labels_for_a_page():
    space = Workspace(replace(LIMITS, values=3 * HEIGHT * WIDTH - 1), Net())
    space.set_photo(photo(), "photo.png")
    with pytest.raises(ValueError, match="3 of 60 x 40 pixels are too many for the page"):
        by_net(space)


def test_memory_is_counted():
    space = workspace()
    sizes = [space.nbytes()]
    space.set_photo(photo(), "photo.png")
    sizes.append(space.nbytes())
    by_net(space)
    sizes.append(space.nbytes())
    space.belief(1, 0)
    sizes.append(space.nbytes())
    assert sizes[0] == 0 and sizes[1] == photo().nbytes and sizes == sorted(set(sizes))
    assert sizes[2] >= sizes[1] + 3 * scores().nbytes  # scores, energies, Q
