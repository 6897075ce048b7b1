"""Fine-tune all of a ViT with a head; runs in the environment that has PyTorch, as a script."""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

EPOCHS, BATCH = 2, 16
RATE, WARM_UP = 5e-5, 0.1
LAYERS, HEADS, PATCH, EPSILON = 12, 6, 14, 1e-6


def main(data: Path, result: Path) -> None:
    """Train, and save the weights under the names they came with.

    Args:
        data: npz with image and label, and the weights, `head.weight` and `head.bias` among them;
            dense layers as (in, out).
        result: npz of the weights.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    arrays = {name: torch.from_numpy(array) for name, array in np.load(data).items()}
    image, label = arrays.pop("image"), arrays.pop("label")
    weights = {name: torch.nn.Parameter(array) for name, array in arrays.items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=RATE, weight_decay=0.01)
    steps = EPOCHS * (len(label) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (WARM_UP * steps), 1 - step / steps)
    )
    for epoch in range(EPOCHS):
        losses = []
        for rows in torch.randperm(len(label))[: len(label) // BATCH * BATCH].split(BATCH):
            batch = image[rows].flip(3) if torch.rand(()) < 0.5 else image[rows]
            loss = functional.cross_entropy(_scores(weights, batch), label[rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {np.mean(losses):.3f}", flush=True)
    np.savez(result, **{name: value.detach().numpy() for name, value in weights.items()})


def _scores(weights: dict[str, torch.nn.Parameter], image: Tensor) -> Tensor:
    def dense(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[-1:], weight, bias, EPSILON)

    def heads(x: Tensor, name: str) -> Tensor:
        return dense(x, name).unflatten(2, (HEADS, -1)).transpose(1, 2)

    patches = "embeddings.patch_embeddings.projection"
    x = functional.conv2d(image, weights[f"{patches}.weight"], weights[f"{patches}.bias"], PATCH)
    x = x.flatten(2).transpose(1, 2) + weights["patch_positions"]
    x = torch.cat([weights["class_token"].expand(len(x), -1, -1), x], dim=1)
    for index in range(LAYERS):
        layer = f"encoder.layer.{index}"
        y, path = norm(x, f"{layer}.norm1"), f"{layer}.attention.attention"
        parts = (heads(y, f"{path}.{part}") for part in ("query", "key", "value"))
        y = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        x = (
            x
            + dense(y, f"{layer}.attention.output.dense") * weights[f"{layer}.layer_scale1.lambda1"]
        )
        y = functional.gelu(dense(norm(x, f"{layer}.norm2"), f"{layer}.mlp.fc1"))
        x = x + dense(y, f"{layer}.mlp.fc2") * weights[f"{layer}.layer_scale2.lambda1"]
    return dense(norm(x, "layernorm")[:, 0], "head")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:3]))
