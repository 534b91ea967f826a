"""Any folder or zip archive of pictures, such as EDM's dataset tool writes."""

from pathlib import Path

from fewstep.data.cache import Cache, Part, Source, Split, cache_folder, cached
from fewstep.data.formats.class_labels import class_labels, class_names
from fewstep.data.formats.picture_files import files_of, picture_names
from fewstep.data.formats.pictures import center_cropped
from fewstep.data.picture_parts import part_of_pictures
from fewstep.data.splits import FilesInSplits, fixed_order
from fewstep.errors import UserError

_LARGEST_RESOLUTION = 1024
_STD_TOLERANCE = 0.01


class ImageFolder(FilesInSplits):
    """Pictures below a folder or in a zip archive, cropped to the largest square in their middle and resized by
    Lanczos' filter, in three splits, [3, resolution, resolution]. Labels come from `dataset.json` or sub-folders
    (`fewstep.data.formats.class_labels`).

    Args:
        path: the folder or archive; PNG, JPEG, WebP and BMP files at any depth.
        resolution: pixels of a side.
        data_std: the root-mean-square over pixels of the training images' standard deviation; it is computed too,
            and a wrong one is told the right one.
        validation_share: share of the pictures that validation gets, at least one picture.
        test_share: share that test gets, at least one picture.
        cache: folder for the cropped images; None: `fewstep-cache` beside `path`.
    """

    name = "image_folder"
    levels = 256

    def __init__(
        self,
        path: str,
        resolution: int,
        data_std: float,
        validation_share: float = 0.05,
        test_share: float = 0.05,
        cache: str | None = None,
    ) -> None:
        if not 1 <= resolution <= _LARGEST_RESOLUTION:
            raise UserError(f"dataset.resolution is {resolution}; allowed are 1 to {_LARGEST_RESOLUTION}.")
        if not (validation_share > 0 and test_share > 0 and validation_share + test_share < 1):
            raise UserError(
                f"dataset.validation_share is {validation_share} and dataset.test_share {test_share}; both must "
                "be positive and together below 1."
            )
        self.path = Path(path).expanduser()
        self.shape = (3, resolution, resolution)
        self.data_std = data_std
        self.validation_share = validation_share
        self.test_share = test_share
        self.cache = cache

    def read(self) -> dict[str, Split]:
        """The splits, uint8 [N, 3, H, W] mapped from the cache, with labels where folders are classes.

        Raises:
            UserError: there is no such folder or archive, or a picture in it cannot be read.
        """
        if not self.path.exists():
            raise UserError(f"dataset.path is {self.path}, but there is no such folder or zip archive.")
        names = picture_names(self.path)
        parts = split_names(names, self.validation_share, self.test_share)
        size = self.shape[1]

        def read() -> dict[str, Part]:
            labels = class_labels(self.path, names, class_names(names))
            return {
                split: part_of_pictures(self.path, chosen, size, center_cropped, labels)
                for split, chosen in parts.items()
            }

        settings = {"resolution": size, "shares": [self.validation_share, self.test_share]}
        source = Source(files_of(self.path, names), read)
        cache = cached(cache_folder(self.cache, self.path), self.name, self.shape, source, settings)
        self._check_std(cache)
        return {split: cache.split(split) for split in parts}

    def _check_std(self, cache: Cache) -> None:
        if abs(cache.data_std - self.data_std) > _STD_TOLERANCE:
            raise UserError(
                f"data_std is {self.data_std}, but the training images of {self.path} have {cache.data_std:.3f}; "
                "set data_std to that."
            )


def split_names(names: list[str], validation_share: float, test_share: float) -> dict[str, list[str]]:
    """Names of the pictures of each split, in `fixed_order`: the first of them are test, then validation, then
    train.

    Raises:
        UserError: there are fewer than three pictures for three splits.
    """
    ordered = [names[row] for row in fixed_order(len(names)).tolist()]
    test = max(1, round(test_share * len(names)))
    validation = max(1, round(validation_share * len(names)))
    if test + validation >= len(names):
        raise UserError(f"There are {len(names)} pictures, too few for training, validation and test.")
    return {
        "train": ordered[test + validation :],
        "validation": ordered[test : test + validation],
        "test": ordered[:test],
    }
