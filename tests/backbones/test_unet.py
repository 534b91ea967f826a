"""The UNet against its published structure, and against a plain functional forward pass over its weights."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from fewstep.backbones.unet import UNet
from fewstep.errors import UserError

CIFAR10 = {
    "image_size": 32,
    "in_channels": 3,
    "out_channels": 6,
    "model_channels": 128,
    "num_res_blocks": 3,
    "channel_mult": (1, 2, 2, 2),
    "attention_resolutions": (16, 8),
    "num_heads": 4,
}
NARROW = {
    "image_size": 8,
    "in_channels": 2,
    "out_channels": 3,
    "model_channels": 8,
    "num_res_blocks": 1,
    "channel_mult": (1, 2),
    "attention_resolutions": (4,),
    "num_heads": 2,
}
VARIANTS = {
    "plain": {},
    "scale_shift": {"use_scale_shift_norm": True},
    "resblock_updown": {"resblock_updown": True, "use_scale_shift_norm": True, "channel_mult": (1, 2, 3)},
    "no_conv_resample": {"conv_resample": False},
    "labels": {"num_classes": 5},
    "qkv_first": {"qkv_order": "qkv_first", "num_res_blocks": 2, "attention_resolutions": (8, 4)},
    "interleaved": {"qkv_order": "interleaved", "num_heads": None, "num_head_channels": 4},
    "few_groups": {"num_groups": 2, "attention_resolutions": ()},
    "everything": {
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "num_classes": 5,
        "num_res_blocks": 2,
        "channel_mult": (1, 1, 2),
        "qkv_order": "qkv_first",
    },
}


def randomised(config: dict, seed: int = 0, dtype: torch.dtype = torch.float64) -> UNet:
    """Give a network whose every parameter is random, those that start at zero too; activations stay near 1."""
    generator = torch.Generator().manual_seed(seed)
    network = UNet(**config).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            fan_in = parameter[0].numel()
            parameter.copy_(draw / math.sqrt(fan_in) if parameter.ndim > 1 else 0.3 * draw + ("norm" in name))
    return network


def inputs(config: dict, batch: int = 3, dtype: torch.dtype = torch.float64, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, config["in_channels"], config["image_size"], config["image_size"])
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    timesteps = 1000 * torch.rand(batch, generator=generator, dtype=torch.float64)
    classes = config.get("num_classes")
    label = None if classes is None else torch.randint(classes, (batch,), generator=generator)
    return x, timesteps, label


# --- the published names ---------------------------------------------------------------------------------------


def layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def residual_shapes(name: str, c: int, width: int, embedding: int, scale_shift: bool) -> dict:
    shapes = {
        **layer(f"{name}.in_layers.0", c),
        **layer(f"{name}.in_layers.2", width, c, 3, 3),
        **layer(f"{name}.emb_layers.1", 2 * width if scale_shift else width, embedding),
        **layer(f"{name}.out_layers.0", width),
        **layer(f"{name}.out_layers.3", width, width, 3, 3),
    }
    return shapes if c == width else {**shapes, **layer(f"{name}.skip_connection", width, c, 1, 1)}


def attention_shapes(name: str, c: int) -> dict:
    return {**layer(f"{name}.norm", c), **layer(f"{name}.qkv", 3 * c, c, 1), **layer(f"{name}.proj_out", c, c, 1)}


def improved_diffusion_shapes(side, inside, out, width, depth, mults, attention, classes=None, scale_shift=False):
    """List every parameter of improved-diffusion's UNet (without residual up- and downsampling) by name."""
    embedding = 4 * width
    shapes = {**layer("time_embed.0", embedding, width), **layer("time_embed.2", embedding, embedding)}
    if classes is not None:
        shapes["label_emb.weight"] = (classes, embedding)
    shapes |= layer("input_blocks.0.0", mults[0] * width, inside, 3, 3)
    # (channels, resolution) of every input block in turn, from which the output blocks take their skips
    left = [mults[0] * width]
    index = 1
    for level, mult in enumerate(mults):
        for _ in range(depth):
            shapes |= residual_shapes(f"input_blocks.{index}.0", left[-1], mult * width, embedding, scale_shift)
            if side // 2**level in attention:
                shapes |= attention_shapes(f"input_blocks.{index}.1", mult * width)
            left.append(mult * width)
            index += 1
        if level + 1 < len(mults):
            shapes |= layer(f"input_blocks.{index}.0.op", mult * width, mult * width, 3, 3)
            left.append(mult * width)
            index += 1
    c = mults[-1] * width
    shapes |= residual_shapes("middle_block.0", c, c, embedding, scale_shift)
    shapes |= attention_shapes("middle_block.1", c)
    shapes |= residual_shapes("middle_block.2", c, c, embedding, scale_shift)
    for index in range((depth + 1) * len(mults)):
        level = len(mults) - 1 - index // (depth + 1)
        attends = side // 2**level in attention
        shapes |= residual_shapes(
            f"output_blocks.{index}.0", c + left.pop(), mults[level] * width, embedding, scale_shift
        )
        c = mults[level] * width
        if attends:
            shapes |= attention_shapes(f"output_blocks.{index}.1", c)
        if index % (depth + 1) == depth and level > 0:
            shapes |= layer(f"output_blocks.{index}.{1 + attends}.conv", c, c, 3, 3)
    assert not left
    return {**shapes, **layer("out.0", c), **layer("out.2", out, c, 3, 3)}


def shapes_of(network: UNet) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


@pytest.mark.parametrize("scale_shift", [False, True])
def test_parameters_of_the_cifar10_network(scale_shift: bool) -> None:
    with torch.device("meta"):
        network = UNet(**CIFAR10, use_scale_shift_norm=scale_shift)
    shapes = improved_diffusion_shapes(32, 3, 6, 128, 3, (1, 2, 2, 2), (16, 8), scale_shift=scale_shift)
    assert shapes_of(network) == shapes
    # A few of them by hand.
    assert shapes["input_blocks.4.0.op.weight"] == (128, 128, 3, 3)
    assert shapes["input_blocks.5.0.skip_connection.weight"] == (256, 128, 1, 1)
    assert shapes["input_blocks.5.1.qkv.weight"] == (768, 256, 1)
    assert shapes["output_blocks.11.2.conv.weight"] == (256, 256, 3, 3)
    assert shapes["output_blocks.15.0.in_layers.2.weight"] == (128, 256, 3, 3)
    assert "output_blocks.15.1.qkv.weight" not in shapes


@pytest.mark.parametrize("classes", [None, 7])
@pytest.mark.parametrize("scale_shift", [False, True])
def test_parameters_of_a_narrow_network(classes: int | None, scale_shift: bool) -> None:
    network = UNet(
        **{**NARROW, "channel_mult": (1, 2, 4), "num_res_blocks": 2, "attention_resolutions": (4, 8)},
        num_classes=classes,
        use_scale_shift_norm=scale_shift,
    )
    assert shapes_of(network) == improved_diffusion_shapes(8, 2, 3, 8, 2, (1, 2, 4), (4, 8), classes, scale_shift)


@pytest.mark.parametrize(
    ("size", "width", "depth", "mults", "heads", "millions"),
    [
        (64, 192, 3, (1, 2, 3, 4), {"num_head_channels": 64}, 296),
        (128, 256, 2, (1, 1, 2, 3, 4), {"num_heads": 4}, 422),
        (256, 256, 2, (1, 1, 2, 2, 4, 4), {"num_head_channels": 64}, 554),
        (512, 256, 2, (0.5, 1, 1, 2, 2, 4, 4), {"num_head_channels": 64}, 559),
    ],
)
def test_size_of_the_published_imagenet_networks(size, width, depth, mults, heads, millions) -> None:
    """Dhariwal and Nichol 2021 state the parameters of ADM to the million (tables of hyperparameters)."""
    with torch.device("meta"):
        network = UNet(
            image_size=size,
            in_channels=3,
            out_channels=6,
            model_channels=width,
            num_res_blocks=depth,
            channel_mult=mults,
            attention_resolutions=(32, 16, 8),
            num_classes=1000,
            use_scale_shift_norm=True,
            resblock_updown=True,
            **heads,
        )
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == millions


def test_residual_updown_names() -> None:
    names = set(UNet(**{**NARROW, "resblock_updown": True}).state_dict())
    assert {"input_blocks.2.0.in_layers.2.weight", "output_blocks.1.2.out_layers.3.weight"} <= names
    assert not any(".op." in name or ".conv." in name for name in names)


def test_config_describes_the_network() -> None:
    network = randomised({**NARROW, "num_classes": 5, "use_scale_shift_norm": True})
    config = json.loads(json.dumps(network.config))
    assert config == network.config
    assert config["channel_mult"] == [1, 2]
    again = UNet(**config).double().eval()
    again.load_state_dict(network.state_dict(), strict=True)
    assert again.config == network.config
    x, timesteps, label = inputs(config)
    assert torch.equal(again(x, timesteps, label), network(x, timesteps, label))


# --- the forward pass, written again as functions of the weights -----------------------------------------------


def sinusoids(timesteps: torch.Tensor, width: int) -> torch.Tensor:
    columns = [torch.cos(timesteps / 10_000 ** (i / (width // 2))) for i in range(width // 2)]
    columns += [torch.sin(timesteps / 10_000 ** (i / (width // 2))) for i in range(width // 2)]
    return torch.stack(columns + [torch.zeros_like(timesteps)] * (width % 2), dim=1)


def reference(state: dict, config: dict, x: torch.Tensor, timesteps: torch.Tensor, label) -> torch.Tensor:
    """Run the network of a state dict; up- and downsampling are told from the resolutions, the rest from names."""
    depth, levels = config["num_res_blocks"], len(config["channel_mult"])
    groups = config.get("num_groups", 32)

    def normalise(name, h):
        b, c, *size = h.shape
        h = h.reshape(b, min(groups, c // 4), -1)
        h = (h - h.mean(2, keepdim=True)) / torch.sqrt(h.var(2, unbiased=False, keepdim=True) + 1e-5)
        gain, bias = (state[f"{name}.{part}"][None, :, None, None] for part in ("weight", "bias"))
        return h.reshape(b, c, *size) * gain + bias

    def silu(h):
        return h / (1 + torch.exp(-h))

    def conv(name, h, stride=1):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.conv2d(h, weight, bias, stride=stride, padding=weight.shape[-1] // 2)

    def halve(h):
        return (h[..., ::2, ::2] + h[..., 1::2, ::2] + h[..., ::2, 1::2] + h[..., 1::2, 1::2]) / 4

    def double(h):
        return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def residual(name, h, change=None):
        skip = h
        h = silu(normalise(f"{name}.in_layers.0", h))
        if change is not None:
            h, skip = change(h), change(skip)
        h = conv(f"{name}.in_layers.2", h)
        shift = silu(embedding) @ state[f"{name}.emb_layers.1.weight"].T + state[f"{name}.emb_layers.1.bias"]
        shift = shift[:, :, None, None]
        if config.get("use_scale_shift_norm"):
            scale, shift = shift[:, : h.shape[1]], shift[:, h.shape[1] :]
            h = normalise(f"{name}.out_layers.0", h) * (1 + scale) + shift
        else:
            h = normalise(f"{name}.out_layers.0", h + shift)
        h = conv(f"{name}.out_layers.3", silu(h))
        return h + (conv(f"{name}.skip_connection", skip) if f"{name}.skip_connection.weight" in state else skip)

    def attention(name, h):
        b, c, *size = h.shape
        heads = config.get("num_heads") or c // config["num_head_channels"]
        d = c // heads
        normal = normalise(f"{name}.norm", h).reshape(b, c, -1)
        rows = torch.einsum("oc,bcl->bol", state[f"{name}.qkv.weight"][:, :, 0], normal)
        rows = rows + state[f"{name}.qkv.bias"][:, None]
        result = torch.empty_like(normal)
        for head in range(heads):
            q, k, v = (
                torch.stack([rows[:, row_of(part, head, i, heads, d)] for i in range(d)], dim=1)
                for part in range(3)
            )
            weights = torch.softmax(torch.einsum("bdi,bdj->bij", q, k) / math.sqrt(d), dim=2)
            result[:, head * d : (head + 1) * d] = torch.einsum("bij,bdj->bdi", weights, v)
        result = torch.einsum("oc,bcl->bol", state[f"{name}.proj_out.weight"][:, :, 0], result)
        return h + (result + state[f"{name}.proj_out.bias"][:, None]).reshape(b, c, *size)

    def row_of(part, head, i, heads, d):
        order = config.get("qkv_order", "heads_first")
        if order == "heads_first":
            return head * 3 * d + part * d + i
        return part * heads * d + head * d + i if order == "qkv_first" else head * d * 3 + i * 3 + part

    def has(name):
        return any(key.startswith(f"{name}.") for key in state)

    def down(name, h):
        if has(f"{name}.in_layers"):
            return residual(name, h, halve)
        return conv(f"{name}.op", h, stride=2) if has(f"{name}.op") else halve(h)

    def up(name, h):
        if has(f"{name}.in_layers"):
            return residual(name, h, double)
        return conv(f"{name}.conv", double(h)) if has(f"{name}.conv") else double(h)

    embedding = sinusoids(timesteps, config["model_channels"])
    embedding = embedding @ state["time_embed.0.weight"].T + state["time_embed.0.bias"]
    embedding = silu(embedding) @ state["time_embed.2.weight"].T + state["time_embed.2.bias"]
    if label is not None:
        embedding = embedding + state["label_emb.weight"][label]

    h = conv("input_blocks.0.0", x)
    skips = [h]
    for index in range(1, (depth + 1) * levels):
        name = f"input_blocks.{index}"
        if index % (depth + 1) == 0:
            h = down(f"{name}.0", h)
        else:
            h = residual(f"{name}.0", h)
            h = attention(f"{name}.1", h) if has(f"{name}.1.qkv") else h
        skips.append(h)
    h = residual("middle_block.2", attention("middle_block.1", residual("middle_block.0", h)))
    for index in range((depth + 1) * levels):
        name = f"output_blocks.{index}"
        h = residual(f"{name}.0", torch.cat([h, skips.pop()], dim=1))
        attends = has(f"{name}.1.qkv")
        h = attention(f"{name}.1", h) if attends else h
        if index % (depth + 1) == depth and index + 1 < (depth + 1) * levels:
            h = up(f"{name}.{1 + attends}", h)
    return conv("out.2", silu(normalise("out.0", h)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_equals_the_functional_forward(variant: str) -> None:
    config = {**NARROW, **VARIANTS[variant]}
    network = randomised(config)
    x, timesteps, label = inputs(config)
    expected = reference(network.state_dict(), config, x, timesteps, label)
    assert expected.std() > 0.1
    torch.testing.assert_close(network(x, timesteps, label), expected, rtol=0, atol=1e-12)


def test_qkv_orders_are_different_networks() -> None:
    config = {**NARROW, "num_heads": 2}
    x, timesteps, _ = inputs(config)
    state = randomised(config).state_dict()
    outputs = []
    for order in ("heads_first", "qkv_first", "interleaved"):
        network = UNet(**config, qkv_order=order).double()
        network.load_state_dict(state, strict=True)
        outputs.append(network(x, timesteps))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (outputs[a] - outputs[b]).abs().max() > 0.01


def test_channels_last_gives_the_same_numbers() -> None:
    config = {**NARROW, **VARIANTS["everything"]}
    network = randomised(config)
    x, timesteps, label = inputs(config)
    plain = network(x, timesteps, label)
    network.to(memory_format=torch.channels_last)
    last = network(x.contiguous(memory_format=torch.channels_last), timesteps, label)
    torch.testing.assert_close(last, plain, rtol=0, atol=1e-12)


# --- what it does ----------------------------------------------------------------------------------------------


def test_output_is_zero_before_training() -> None:
    x, timesteps, _ = inputs(NARROW, dtype=torch.float32)
    output = UNet(**NARROW)(x, timesteps)
    assert output.shape == (3, 3, 8, 8)
    assert not output.any()


def test_last_layer_of_every_branch_starts_at_zero() -> None:
    weights = {name: value for name, value in UNet(**NARROW).state_dict().items() if value.ndim > 1}
    zero = {name for name, value in weights.items() if not value.any()}
    ends = (".out_layers.3.weight", ".proj_out.weight", "out.2.weight")
    assert zero == {name for name in weights if name.endswith(ends)}


def test_output_is_continuous_in_the_timestep() -> None:
    network = randomised(NARROW)
    x, _, _ = inputs(NARROW, batch=1)

    def at(t: float) -> torch.Tensor:
        return network(x, torch.tensor([t], dtype=torch.float64)).detach()

    assert (at(998.5) - at(998.0)).abs().max() > 1e-3
    # Differentiable in t: halving a small step halves the change, and nothing jumps on crossing an integer.
    for t in (998.5, 998.0):
        whole, half = ((at(t + step) - at(t - step)).abs().max().item() for step in (1e-5, 5e-6))
        assert whole / half == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_a_gradient(variant: str) -> None:
    config = {**NARROW, **VARIANTS[variant]}
    network = randomised(config)
    x, timesteps, label = inputs(config)
    network(x, timesteps, label).square().sum().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_is_near_double(dtype: torch.dtype) -> None:
    network = randomised(NARROW)
    x, timesteps, _ = inputs(NARROW)
    exact = network(x, timesteps)
    rounded = network.to(dtype)(x, timesteps)
    assert rounded.dtype == torch.float64
    error = (rounded - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt()
    assert 0 < error < {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]


def test_timesteps_are_not_rounded_to_the_weights_precision() -> None:
    network = randomised(NARROW, dtype=torch.bfloat16)
    x, _, _ = inputs(NARROW, batch=1)
    t, rounded = torch.tensor([999.4]), torch.tensor([999.4]).bfloat16().float()
    assert rounded == 1000
    assert not torch.equal(network(x, t), network(x, rounded))


def test_dropout_acts_in_training_alone() -> None:
    network = randomised({**NARROW, "dropout": 0.5})
    x, timesteps, _ = inputs(NARROW)
    assert torch.equal(network(x, timesteps), network(x, timesteps))
    network.train()
    assert not torch.equal(network(x, timesteps), network(x, timesteps))


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    """To the last bit, at one position of batches of one size; the sampler's padded batches rest on it."""
    network = randomised(NARROW, dtype=torch.float32)
    x, timesteps, _ = inputs(NARROW, batch=8, dtype=torch.float32)
    others, other_timesteps, _ = inputs(NARROW, batch=8, dtype=torch.float32, seed=2)
    others[5], other_timesteps[5] = x[5], timesteps[5]
    assert torch.equal(network(x, timesteps)[5], network(others, other_timesteps)[5])


# --- what it refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 9}, "image_size=9"),
        ({"channel_mult": ()}, "at least one level"),
        ({"num_res_blocks": 0}, "num_res_blocks=0"),
        ({"attention_resolutions": (4, 16)}, r"\[4, 16\].*\[8, 4\]"),
        ({"num_heads": 3}, "num_heads=3 does not divide the 16 channels"),
        ({"num_heads": 0}, "num_heads=0"),
        ({"num_head_channels": 4}, "exactly one"),
        ({"num_heads": None}, "exactly one"),
        ({"num_heads": None, "num_head_channels": 5}, "num_head_channels=5 does not divide the 16 channels"),
        ({"num_groups": 3, "model_channels": 16}, "num_groups=3.*16 channels"),
        ({"num_groups": 0}, "num_groups=0"),
        ({"model_channels": 6}, "channels // 4"),
        ({"qkv_order": "diffusers"}, "heads_first, qkv_first, interleaved"),
    ],
)
def test_sizes_that_do_not_fit(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        UNet(**{**NARROW, **change})


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 2, 4, 4), (2, 2, 8, 4), (2, 8, 8), (2, 2, 16, 16)])
def test_images_of_a_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"\[B, 2, 8, 8\]"):
        UNet(**NARROW)(torch.zeros(shape), torch.zeros(2))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1)])
def test_timesteps_of_a_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="one per image"):
        UNet(**NARROW)(torch.zeros(2, 2, 8, 8), torch.zeros(shape))


def test_labels_that_are_missing_or_not_wanted() -> None:
    x, timesteps = torch.zeros(2, 2, 8, 8), torch.zeros(2)
    label = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(UserError, match="unconditional"):
        UNet(**NARROW)(x, timesteps, label)
    conditional = UNet(**NARROW, num_classes=5)
    with pytest.raises(UserError, match="no labels"):
        conditional(x, timesteps)
    with pytest.raises(UserError, match="one per image"):
        conditional(x, timesteps, label[:1])
