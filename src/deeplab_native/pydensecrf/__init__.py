"""A drop-in replacement for pydensecrf, on NumPy arrays and without importing torch.

    import deeplab_native.pydensecrf.densecrf as dcrf
    from deeplab_native.pydensecrf.utils import unary_from_softmax

Names, arguments, defaults and results are pydensecrf's; docs/migrating_from_pydensecrf.md lists
every difference. On a GPU, in batches and with gradients: `deeplab_native.dense_crf`.
"""

from . import densecrf, eigen, utils

__all__ = ["densecrf", "eigen", "utils"]
