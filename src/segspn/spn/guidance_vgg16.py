"""The published guidance net (paper section 3): VGG-16 down, a mirrored decoder up, skip links."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone.convention import normalise, require_convention
from segspn.weights import RANDOM, assign_weights, read_state, seeded

# (convolutions, channels) of the five blocks, each followed by a pooling.
_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))

_VGG_FILE = (
    "a VGG-16 state dict in torchvision's format (.pth or .safetensors; features.* is read), such as "
    "https://download.pytorch.org/models/vgg16-397923af.pth"
)
_GUIDANCE_FILE = "safetensors of a trained VGG-16 guidance net (features.*, decoder.*, out.*)"


class Vgg16Guidance(nn.Module):
    """RGB ``(B, 3, H, W)`` in 0..255 -> gates ``(B, 4, 3, H, W)`` of any sign.

    The operator normalises them. ``H`` and ``W`` must be multiples of 32 (the pipeline pads frames).
    ``features`` has torchvision's numbering. ``convention``: see ``backbone.convention``.
    """

    def __init__(self, convention: str) -> None:
        super().__init__()
        self.convention = require_convention(convention)
        encoder: list[nn.Module] = []
        decoder: list[nn.Module] = []
        cin = 3
        for count, width in _BLOCKS:
            # The decoder's block is the encoder's backwards, and ends with what the block below has.
            narrow = width if cin == 3 else cin
            backwards: list[nn.Module] = []
            for k in range(count):
                encoder += [nn.Conv2d(cin, width, 3, padding=1), nn.ReLU(inplace=True)]
                cin = width
                out = narrow if k == count - 1 else width
                backwards += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU(inplace=True)]
            encoder.append(nn.MaxPool2d(2))
            decoder.insert(0, nn.Sequential(*backwards))
        self.features = nn.Sequential(*encoder)
        self.decoder = nn.ModuleList(decoder)
        self.out = nn.Conv2d(_BLOCKS[0][1], 12, 3, padding=1)

    @classmethod
    def load(cls, guidance: str, vgg: str, convention: str, seed: int) -> Vgg16Guidance:
        """The net from weight files: ``guidance`` holds all of it; where that is ``random``, ``vgg``
        holds the encoder, or is ``random`` too."""
        with seeded(seed):
            net = cls(convention).eval()
        if guidance != RANDOM:
            path, state = read_state(guidance, _GUIDANCE_FILE)
            assign_weights(net, state, path)
        elif vgg != RANDOM:
            path, state = read_state(vgg, _VGG_FILE)
            prefix = "features."
            kept = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
            assign_weights(net.features, kept, path)
        return net

    def forward(self, image: Tensor) -> Tensor:
        x = normalise(image, self.convention)
        skips: list[Tensor] = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                skips.append(x)
            x = layer(x)
        for block in self.decoder:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(x + skips.pop())
        return self.out(x).unflatten(1, (4, 3))
