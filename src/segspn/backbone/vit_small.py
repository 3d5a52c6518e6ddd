"""ViT-S/14 as a feature extractor, for weights that the user has locally (DINOv2).

Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021), with the names of DINOv2's published
checkpoints in Hugging Face's layout (Oquab et al., 2023).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segspn.backbone.convention import normalise

PATCH = 14


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            f(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for f in (self.query, self.key, self.value)
        )
        y: Tensor = self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return y


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = _Attention(width, heads)
        self.scale1 = nn.Parameter(torch.ones(width))
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.scale2 = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale1 * self.attention(self.norm1(x))
        return x + self.scale2 * self.fc2(F.gelu(self.fc1(self.norm2(x))))


class VitSmall(nn.Module):
    """RGB ``(B, 3, H, W)`` in 0..255 -> patch features ``(B, 384, round(H / s), round(W / s))``.

    ``stride`` ``s``: the image is scaled so that a patch of 14 pixels covers ``s`` pixels of the frame;
    the time grows with the square of 1 / s, and beyond that for its attention.
    """

    channels = 384

    def __init__(self, stride: float = 14.0, width: int = 384, heads: int = 6, depth: int = 12) -> None:
        super().__init__()
        self.stride = stride
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + 37 * 37, width))
        self.projection = nn.Conv2d(3, width, PATCH, PATCH)
        self.layer = nn.ModuleList(_Layer(width, heads) for _ in range(depth))
        self.layernorm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, image: Tensor) -> Tensor:
        h, w = (max(1, round(n / self.stride)) for n in image.shape[-2:])
        size = (h * PATCH, w * PATCH)
        if size != image.shape[-2:]:
            image = F.interpolate(image, size=size, mode="bilinear", antialias=True)
        x = self.projection(normalise(image, "torchvision")).flatten(2).transpose(1, 2)
        places = self.position_embeddings[:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
        places = F.interpolate(places, size=(h, w), mode="bicubic", align_corners=False)
        x = x + places.flatten(2).transpose(1, 2)
        first = (self.cls_token + self.position_embeddings[:, :1]).expand(len(x), -1, -1)
        x = torch.cat((first, x), 1)
        for layer in self.layer:
            x = layer(x)
        return self.layernorm(x)[:, 1:].transpose(1, 2).unflatten(2, (h, w))
