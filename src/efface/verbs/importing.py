"""The verb `import`: an artifact of a model that Efface did not train."""

from __future__ import annotations

from efface.artifact.artifact import Artifact
from efface.artifact.case import Case
from efface.data import Data
from efface.models.spec import ModelSpec
from efface.training.recipe import Recipe

__all__ = ["import_checkpoint"]


def import_checkpoint(
    model: ModelSpec,
    data: Data,
    *,
    recipe: Recipe | None = None,
    validation: float = 0.0,
    device: str = "auto",
) -> Artifact:
    """Make an artifact of weights from elsewhere, without training.

    The record keeps how the weights were stored, so that `Artifact.export` writes new ones back the same way, and how
    the model does on some of its training data.

    Args:
        model: How it is built, and where its weights are; of a folder of Hugging Face's, `ModelSpec.of_folder`.
        data: The data it was trained on.
        recipe: How it was trained, for methods that train and for retraining.
        validation: Fraction of the training data that the model has never seen.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.

    Returns:
        The artifact; nothing is written until `save`.

    Warns:
        InputWarning: It gets hardly any of its own training data right: the inputs are not what it was trained on.

    Raises:
        InputError: The weights do not fit the network, or the network does not fit the data.

    Example:
        >>> import efface, pathlib, tempfile
        >>> data = efface.load_data("digits")
        >>> trained = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=64))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     weights = trained.export(pathlib.Path(folder) / "weights.pth")
        ...     imported = efface.import_checkpoint(efface.ModelSpec(build="mlp", weights=weights), data)
        >>> imported.record.action, imported.record.origin.format
        ('given', 'torch')
    """
    return Case.of(model, data, recipe=recipe, validation=validation, device=device).original
