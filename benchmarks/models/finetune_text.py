"""Fine-tune all of MiniLM with a head; runs in the environment that has PyTorch, as a script."""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import BertConfig, BertModel

EPOCHS, BATCH = 2, 16
ENCODER_RATE, HEAD_RATE = 1e-4, 5e-2
WARM_UP = 0.1


def main(weights: Path, data: Path, result: Path) -> None:
    """Train, and save the weights under the names of the Hugging Face checkpoint.

    Args:
        weights: safetensors of the encoder.
        data: npz with input_ids, attention_mask, label, head (hidden, classes) and bias.
        result: safetensors of the encoder, and of `head` and `bias`.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    encoder = BertModel(config, add_pooling_layer=False)
    found = encoder.load_state_dict(load_file(weights), strict=False)
    if found.missing_keys:
        raise ValueError(f"The checkpoint has no {found.missing_keys}")
    arrays = {name: torch.from_numpy(array) for name, array in np.load(data).items()}
    head, bias = (torch.nn.Parameter(arrays[name]) for name in ("head", "bias"))
    optimizer = torch.optim.AdamW(
        [
            {"params": encoder.parameters(), "lr": ENCODER_RATE},
            {"params": [head, bias], "lr": HEAD_RATE},
        ],
        weight_decay=0.01,
    )
    count = len(arrays["label"])
    steps = EPOCHS * (count // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (WARM_UP * steps), 1 - step / steps)
    )
    encoder.train()
    for epoch in range(EPOCHS):
        losses = []
        for rows in torch.randperm(count)[: count // BATCH * BATCH].split(BATCH):
            mask = arrays["attention_mask"][rows]
            hidden = encoder(arrays["input_ids"][rows], attention_mask=mask).last_hidden_state
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            scores = functional.normalize(pooled, dim=1) @ head + bias
            loss = functional.cross_entropy(scores, arrays["label"][rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {np.mean(losses):.3f}", flush=True)
    state = {name: value.contiguous() for name, value in encoder.state_dict().items()}
    save_file({**state, "head": head.data, "bias": bias.data}, result)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
