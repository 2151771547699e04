"""set_output_stride on nets of other packages, where these are installed."""

from __future__ import annotations

import importlib

import pytest
from torch import nn

from python_tests.models.stride_cases import check_denser


def public_net(package, module, name, **arguments):
    """A net of another package, without its head; skips where it cannot be imported."""
    try:
        make = getattr(importlib.import_module(f"{package}{module}"), name)
    except (ImportError, RuntimeError) as error:  # torchvision for another torch: RuntimeError
        pytest.skip(f"{package} cannot be imported: {error}")
    return make(**arguments)


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "densenet121"])
def test_nets_of_torchvision(name):
    net = public_net("torchvision", ".models", name, weights=None)
    model = net.features if hasattr(net, "features") else nn.Sequential(*list(net.children())[:-2])
    check_denser(model.eval(), 32, 8, (97, 129))


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "regnetx_002"])
def test_nets_of_timm(name):
    net = public_net("timm", "", "create_model", model_name=name, num_classes=0, global_pool="")
    check_denser(net.eval(), 32, 8, (97, 129))
