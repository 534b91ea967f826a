"""OpenAI's networks by their description: the tensors of a state dict, and the forward pass from them alone."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE, WIDTH = 8, 8


class Kind:
    """A network in OpenAI's layout: its shapes, and its forward pass from the tensors alone."""

    def __init__(
        self,
        mult: tuple[int, ...],
        depth: int,
        attention: tuple[int, ...],
        *,
        scale_shift: bool = True,
        blocks_resample: bool = False,
        classes: int | None = None,
        head: int | None = None,
    ) -> None:
        self.mult, self.depth, self.attention, self.classes, self.head = mult, depth, attention, classes, head
        self.scale_shift, self.blocks_resample = scale_shift, blocks_resample
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.layers: list[tuple[str, list[tuple[str, str]]]] = []  # (skip: pushed or taken, layers of a block)
        self._list()

    def _layer(self, name: str, *shape: int) -> None:
        self.shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}

    def _residual(self, name: str, c: int, out: int) -> None:
        self._layer(f"{name}.in_layers.0", c)
        self._layer(f"{name}.in_layers.2", out, c, 3, 3)
        self._layer(f"{name}.emb_layers.1", (1 + self.scale_shift) * out, 4 * WIDTH)
        self._layer(f"{name}.out_layers.0", out)
        self._layer(f"{name}.out_layers.3", out, out, 3, 3)
        if c != out:
            self._layer(f"{name}.skip_connection", out, c, 1, 1)

    def _attention(self, name: str, c: int) -> None:
        self._layer(f"{name}.norm", c)
        self._layer(f"{name}.qkv", 3 * c, c, 1)
        self._layer(f"{name}.proj_out", c, c, 1)

    def _resampling(self, name: str, kind: str, c: int) -> tuple[str, str]:
        if self.blocks_resample:
            self._residual(name, c, c)
            return name, f"residual {kind}"
        self._layer(f"{name}.{'op' if kind == 'down' else 'conv'}", c, c, 3, 3)
        return name, kind

    def _list(self) -> None:
        self._layer("time_embed.0", 4 * WIDTH, WIDTH)
        self._layer("time_embed.2", 4 * WIDTH, 4 * WIDTH)
        if self.classes:
            self.shapes["label_emb.weight"] = (self.classes, 4 * WIDTH)
        c = self.mult[0] * WIDTH
        self._layer("input_blocks.0.0", c, 3, 3, 3)
        skips, i = [c], 1
        self.layers.append(("push", [("input_blocks.0.0", "convolution")]))
        for level, mult in enumerate(self.mult):
            for _ in range(self.depth):
                self._residual(f"input_blocks.{i}.0", c, mult * WIDTH)
                c = mult * WIDTH
                block = [(f"input_blocks.{i}.0", "residual")]
                if SIZE >> level in self.attention:
                    self._attention(f"input_blocks.{i}.1", c)
                    block.append((f"input_blocks.{i}.1", "attention"))
                self.layers.append(("push", block))
                skips.append(c)
                i += 1
            if level + 1 < len(self.mult):
                self.layers.append(("push", [self._resampling(f"input_blocks.{i}.0", "down", c)]))
                skips.append(c)
                i += 1
        self._residual("middle_block.0", c, c)
        self._attention("middle_block.1", c)
        self._residual("middle_block.2", c, c)
        middle = [("middle_block.0", "residual"), ("middle_block.1", "attention"), ("middle_block.2", "residual")]
        self.layers.append(("", middle))
        i = 0
        for level, mult in reversed(list(enumerate(self.mult))):
            for last in [*[False] * self.depth, True]:
                self._residual(f"output_blocks.{i}.0", c + skips.pop(), mult * WIDTH)
                c = mult * WIDTH
                block = [(f"output_blocks.{i}.0", "residual")]
                if SIZE >> level in self.attention:
                    self._attention(f"output_blocks.{i}.1", c)
                    block.append((f"output_blocks.{i}.1", "attention"))
                if last and level:
                    block.append(self._resampling(f"output_blocks.{i}.{len(block)}", "up", c))
                self.layers.append(("take", block))
                i += 1
        self._layer("out.0", c)
        self._layer("out.2", 6, c, 3, 3)

    def forward(self, state: dict[str, Tensor], x: Tensor, timesteps: Tensor, label: Tensor | None) -> Tensor:
        state = {name: tensor.double() for name, tensor in state.items()}

        def conv(name: str, h: Tensor, stride: int = 1) -> Tensor:
            weight = state[f"{name}.weight"]
            return F.conv2d(h, weight, state[f"{name}.bias"], stride=stride, padding=weight.shape[-1] // 2)

        def linear(name: str, h: Tensor) -> Tensor:
            return h @ state[f"{name}.weight"].T + state[f"{name}.bias"]

        def normalise(name: str, h: Tensor) -> Tensor:
            groups = h.reshape(len(h), min(32, h.shape[1] // 4), -1)
            spread = (groups.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
            whole = ((groups - groups.mean(2, keepdim=True)) / spread).reshape(h.shape)
            return whole * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]

        def change(kind: str, h: Tensor) -> Tensor:
            if kind == "down":
                return h.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))
            return h.repeat_interleave(2, 2).repeat_interleave(2, 3) if kind == "up" else h

        def residual(name: str, h: Tensor, kind: str) -> Tensor:
            skip = change(kind, h)
            h = conv(f"{name}.in_layers.2", change(kind, F.silu(normalise(f"{name}.in_layers.0", h))))
            added = linear(f"{name}.emb_layers.1", F.silu(embedding))[:, :, None, None]
            if self.scale_shift:
                scale, shift = added.tensor_split(2, dim=1)
                h = normalise(f"{name}.out_layers.0", h) * (1 + scale) + shift
            else:
                h = normalise(f"{name}.out_layers.0", h + added)
            h = conv(f"{name}.out_layers.3", F.silu(h))
            return h + (conv(f"{name}.skip_connection", skip) if f"{name}.skip_connection.bias" in state else skip)

        def attention(name: str, h: Tensor) -> Tensor:
            """The rows of qkv run over heads, then q, k and v, then channels."""
            c = h.shape[1]
            d = self.head or c // 2
            rows = torch.einsum(
                "oi,bil->bol", state[f"{name}.qkv.weight"][:, :, 0], normalise(f"{name}.norm", h).flatten(2)
            )
            rows = rows + state[f"{name}.qkv.bias"][:, None]
            found = []
            for first in range(0, 3 * c, 3 * d):
                q, k, v = (rows[:, first + part * d : first + (part + 1) * d] for part in range(3))
                weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(d), dim=2)
                found.append(v @ weights.transpose(1, 2))
            change = torch.einsum("oi,bil->bol", state[f"{name}.proj_out.weight"][:, :, 0], torch.cat(found, 1))
            return h + (change + state[f"{name}.proj_out.bias"][:, None]).reshape(h.shape)

        def layer(name: str, kind: str, h: Tensor) -> Tensor:
            if kind.startswith("residual"):
                return residual(name, h, kind.removeprefix("residual").strip())
            if kind == "attention":
                return attention(name, h)
            if kind == "down":
                return conv(f"{name}.op", h, stride=2)
            return conv(f"{name}.conv", change("up", h)) if kind == "up" else conv(name, h)

        angles = torch.outer(timesteps, 10_000 ** (-torch.arange(WIDTH // 2, dtype=torch.float64) / (WIDTH // 2)))
        embedding = linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], dim=1))
        embedding = linear("time_embed.2", F.silu(embedding))
        embedding = embedding if label is None else embedding + state["label_emb.weight"][label]
        h, skips = x, []
        for skip, block in self.layers:
            h = torch.cat([h, skips.pop()], dim=1) if skip == "take" else h
            for name, kind in block:
                h = layer(name, kind, h)
            if skip == "push":
                skips.append(h)
        return conv("out.2", F.silu(normalise("out.0", h)))
