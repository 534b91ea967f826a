"""Classes of pictures: from `dataset.json` as EDM's dataset tool writes it, or from the names of sub-folders."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewstep.data.formats.picture_files import DATASET_JSON, dataset_json
from fewstep.data.formats.reading import readable
from fewstep.errors import UserError
from fewstep.provenance import shown

MOST_CLASSES = 1 << 20


def class_labels(path: Path, names: Sequence[str], classes: Sequence[str] | None) -> dict[str, int] | None:
    """Name → class of all pictures of a folder or zip archive; None where there are no classes.

    `dataset.json` decides if there is one: `{"labels": [[name, class], …]}`, or `{"labels": null}` for none. Else
    the sub-folders are classes, numbered as in `classes`.

    Args:
        path: the folder or archive.
        names: of all its pictures.
        classes: names of the sub-folders, as `class_names` finds them here or in another set; None: there are
            none.

    Raises:
        UserError: `dataset.json` is damaged or does not name every picture; a sub-folder is not one of `classes`.
    """
    content = dataset_json(path)
    if content is not None:
        return _labels_of_json(content, f"{path}/{DATASET_JSON}", names)
    folders = _class_folders(names)
    if folders is None or classes is None:
        return None
    order = {name: number for number, name in enumerate(classes)}
    strange = sorted(set(folders) - order.keys())
    if strange:
        raise UserError(
            f"{path} has the sub-folder {shown(strange[0])}, which is no class of the training images."
        )
    return {name: order[folder] for name, folder in zip(names, folders, strict=True)}


def class_names(names: Sequence[str]) -> list[str] | None:
    """The sub-folders of pictures, sorted, if there are two or more and every picture lies in one; else None.

    Folders that all pictures share, such as the one that a zip archive was made of, are none of them.
    """
    folders = _class_folders(names)
    return None if folders is None else sorted(set(folders))


def _class_folders(names: Sequence[str]) -> list[str] | None:
    parts = [name.split("/") for name in names]
    depth = 0
    while all(len(part) > depth + 1 and part[depth] == parts[0][depth] for part in parts):
        depth += 1
    if any(len(part) < depth + 2 for part in parts):
        return None
    return [part[depth] for part in parts]


def _labels_of_json(content: bytes, where: str, names: Sequence[str]) -> dict[str, int] | None:
    with readable(where, "JSON"):
        tree = json.loads(content)
    if not isinstance(tree, dict) or "labels" not in tree:
        raise UserError(f'{where} has no "labels".')
    if tree["labels"] is None:
        return None
    found = _checked_pairs(tree["labels"], where)
    missing = next((name for name in names if name not in found), None)
    if missing is not None:
        raise UserError(f"{where} has no label for {shown(missing)}.")
    return found


def _checked_pairs(pairs: Any, where: str) -> dict[str, int]:
    if not isinstance(pairs, list):
        raise UserError(f'The "labels" of {where} must be a list of pairs [name, class], or null.')
    for pair in pairs:
        sound = isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and type(pair[1]) is int
        if not sound or not 0 <= pair[1] < MOST_CLASSES:
            raise UserError(
                f'The "labels" of {where} hold {shown(repr(pair))}; allowed are pairs [name, class] with a class '
                f"from 0 to {MOST_CLASSES - 1:,}."
            )
    return dict(pairs)
