"""Features of pixels, to the bit."""

import torch

from deeplab_native.ops.pairwise_features import image_features, position_features


def test_features_are_divided_in_float32(device):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (2, 3, 6, 7), generator=generator, dtype=torch.uint8)
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    x, y = x / torch.full((1,), 3.3), y / torch.full((1,), 1.7)
    colours = image.float() / torch.tensor([2.3, 5.1, 7.7])[:, None, None]
    expected = torch.cat((torch.stack((x, y)).expand(2, -1, -1, -1), colours), 1)
    image = image.to(device)
    for one in (image, image.float(), image.contiguous(memory_format=torch.channels_last)):
        features = image_features(one, (1.7, 3.3), (2.3, 5.1, 7.7))
        assert torch.equal(features.cpu(), expected.flatten(2).transpose(1, 2))
    positions = position_features(6, 7, (1.7, 3.3), device=device)
    assert torch.equal(positions, features[0, :, :2])
