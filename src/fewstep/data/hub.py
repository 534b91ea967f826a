"""Parquet files of a data set of the Hugging Face hub, fetched into a folder; only where a setting asks for it."""

from pathlib import Path

from fewstep.errors import UserError
from fewstep.provenance import shown


def fetched(path: Path, hub: str | None) -> Path:
    """`path`; if it does not exist and `hub` names a data set of the hub, its parquet files are fetched there
    first.

    A download that was cut short lies in `<path>.part` and goes on the next time.

    Raises:
        UserError: huggingface_hub is not installed, or the data set cannot be fetched.
    """
    if hub is None or path.exists():
        return path
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(
            f"Fetching {shown(hub)} needs huggingface_hub; install it with pip install 'fewstep[data]'."
        ) from None
    part = path.with_name(f"{path.name}.part")
    try:
        snapshot_download(repo_id=hub, repo_type="dataset", allow_patterns="*.parquet", local_dir=part)
        part.replace(path)
    except Exception as error:  # of the network, of the hub, of the disk
        raise UserError(f"The data set {shown(hub)} cannot be fetched into {path}: {shown(str(error))}") from None
    return path
