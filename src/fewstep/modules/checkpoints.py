"""Checkpoints that are whole or absent, wherever they lie.

Lightning writes a checkpoint to the system's temporary folder and moves it: on another disk that is a copy, which
a kill leaves half done under the name that the next attempt reads.
"""

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from fewstep.errors import UserError
from fewstep.files import write_atomically


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's plugin for checkpoints, on `write_atomically`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint."""
        content = io.BytesIO()  # torch's own writer does not say why it could not write
        torch.save(checkpoint, content)
        write_atomically(Path(path), content.getvalue())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read what `save_checkpoint` wrote.

        Raises:
            UserError: the file is damaged.
        """
        try:
            return super().load_checkpoint(path, map_location, weights_only)
        except Exception as error:  # an unpickler lets through whatever it meets
            raise UserError(
                f"The checkpoint {path} is damaged ({error}); remove it, and training begins anew."
            ) from error
