"""A plan on the terminal: stages and what they take, and below what `statistics.timesteps=auto` saves."""

import torch
from rich import box
from rich.table import Table

from fewstep.calls import ABOUT, Calls
from fewstep.planning.ledger import STATISTICS, Total
from fewstep.planning.network import Network
from fewstep.planning.plan import Plan
from fewstep.report.printing import NOTHING, number
from fewstep.report.terminal import rendered

DURATIONS = ((86400, "d"), (3600, "h"), (60, "min"))
PREFIXES = ((1e18, " E"), (1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))
SIZES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"))
LEGEND = (
    "forward, forward + backward: images through the network; ≤ are bounds, ≈ estimates, others exact.",
    "They are the network_calls of run.json, which does not count the validations during training.",
    "FLOPs: a multiply-add is two. Time: of the network alone, on one device; what judges samples is not timed.",
)
OF_STATISTICS = "Of statistics that judge also, roughly, the sums that are kept of every image, on the disk too."
OF_GPU = "Memory: weights, optimizer, averaged weights, and torch.cuda.max_memory_allocated of a batch."
OF_CPU = "Memory: weights, optimizer, averaged weights, and the tensors alive in a batch, added up: an estimate."


def printed(plan: Plan) -> str:
    """The plan as plain text."""
    return "\n".join([rendered(_stages(plan)), rendered(_choices(plan)), *_notes(plan)])


def _stages(plan: Plan) -> Table:
    """A row for every stage, for all of them, and for what is left of them."""
    ledger = plan.configured
    table = _table("stage", "forward", "forward +\nbackward", "FLOPs", "memory", "time", "runs\ncomplete")
    for stage in ledger.stages:
        table.add_row(stage, *_row(ledger.total([stage])))
    table.add_section()
    whole = ledger.total()
    table.add_row("in all", *_row(whole))
    if whole.complete:
        table.add_row("left to do", *_row(ledger.total(left=True)))
    return table


def _choices(plan: Plan) -> Table:
    """What the statistics take, and all, with either choice of their timesteps."""
    table = _table("statistics.timesteps", "statistics:\nforward", "FLOPs", "time", "in all:\nFLOPs", "time")
    for choice, ledger in plan.by_timesteps.items():
        statistics = ledger.total([stage for stage in ledger.stages if stage.startswith(STATISTICS)])
        whole = ledger.total()
        name = f"{choice}{' (as configured)' if plan.choices == {choice} else ''}"
        table.add_row(name, calls(statistics.calls, statistics.calls.forward), *_price(statistics), *_price(whole))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    return table


def _row(total: Total) -> list[str]:
    flops, seconds = _price(total)
    return [
        calls(total.calls, total.calls.forward),
        calls(total.calls, total.calls.forward_backward),
        flops,
        size(total.spending.bytes) if total.spending.bytes else NOTHING,
        seconds,
        f"{total.complete} of {total.runs}",
    ]


def _price(total: Total) -> tuple[str, str]:
    """FLOPs, as sure as the calls, and time."""
    if not total.calls.total:
        return NOTHING, NOTHING
    mark = f"{total.calls.mark} " if total.calls.mark else ""
    return f"{mark}{flops(total.spending.flops)}", f"≈ {duration(total.spending.seconds)}"


def _notes(plan: Plan) -> list[str]:
    """How many jobs there are, what was measured, and what the columns mean."""
    runs, shared = plan.configured.total().runs, len(plan.configured.shared)
    notes = []
    if plan.jobs > 1:
        notes.append(f"{plan.jobs} jobs of {runs:,} runs in all, {shared:,} of which several jobs share.")
    notes += [line for network in plan.networks.all for line in _measured(network) if network.passes]
    gpu = any(network.device.type == "cuda" for network in plan.networks.all)
    return [*notes, *LEGEND, OF_GPU if gpu else OF_CPU, OF_STATISTICS]


def _measured(network: Network) -> list[str]:
    """A network's parameters, its device, and what its passes took."""
    device = network.device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    if device.type == "cpu":
        threads = torch.get_num_threads()
        where += f" ({threads} thread{'s' if threads > 1 else ''})"
    passes = [
        f"  {name}: {flops(one.flops)}FLOP an image; {one.batch} images in {duration(one.seconds * one.batch)}"
        for name, one in sorted(network.passes.items())
    ]
    return [f"Measured, a network of {network.parameters:,} parameters on {where}:", *passes]


def calls(of: Calls, count: int) -> str:
    """A number of calls with its mark, or nothing where there are surely none."""
    if not count and not (of.mark == ABOUT and not of.total):
        return NOTHING
    return f"{of.mark} {number(count, 0)}" if of.mark else number(count, 0)


def flops(count: float) -> str:
    """Floating-point operations with a decimal prefix, such as `1.23 T`."""
    for unit, prefix in PREFIXES:
        if count >= unit:
            return f"{count / unit:.3g}{prefix}"
    return f"{count:.0f} "


def size(count: int) -> str:
    """Bytes, such as `1.23 GiB`."""
    for unit, name in SIZES:
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 2**10:.3g} KiB"


def duration(seconds: float) -> str:
    """A time to two or three digits, such as `12 min`."""
    for unit, name in DURATIONS:
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}" if seconds >= 10 * unit else f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
