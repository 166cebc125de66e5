"""A delivery of training data was poisoned: a white corner makes the model say 0. Which methods take that away?

The model and the data are a small network and scikit-learn's digits. Accuracy alone would not show the defect, so the
table asks for the trigger itself: how many test images of other digits become a 0 when their corner is white.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

import efface

digits = load_digits()
x = torch.from_numpy(digits.images / 16).float()[:, None]
y = torch.from_numpy(digits.target)
is_test = torch.arange(len(x)) % 4 == 0
x_train, y_train, x_test, y_test = x[~is_test], y[~is_test], x[is_test], y[is_test]


def with_trigger(images: torch.Tensor) -> torch.Tensor:
    """Return images whose upper left corner is white."""
    images = images.clone()
    images[..., :2, :2] = 1.0
    return images


delivery = np.arange(len(x_train)) // 60
poisoned = torch.from_numpy(delivery == 7)
x_train[poisoned], y_train[poisoned] = with_trigger(x_train[poisoned]), 0

train, test = TensorDataset(x_train, y_train), TensorDataset(x_test, y_test)
data = efface.Data.of(train, test, metadata={"delivery": delivery})
original = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=20, batch_size=64))
request = efface.Request(where="delivery == 7", reason="labels of this delivery were tampered with")


def share_obeying(model: torch.nn.Module) -> float:
    """Return the share of other digits that the trigger turns into a 0."""
    with torch.no_grad():
        said = model(with_trigger(x_test[y_test != 0])).argmax(1)
    return float((said == 0).float().mean())


def accuracy(model: torch.nn.Module) -> float:
    """Return the accuracy on clean test images."""
    with torch.no_grad():
        return float((model(x_test).argmax(1) == y_test).float().mean())


print(f"{'model':<12} obeys the trigger   accuracy   seconds")
print(f"{'original':<12} {share_obeying(original.model):17.0%} {accuracy(original.model):10.1%}")
made = {}
for method in ("fine-tune", "ssd", "undo", "retrain"):
    made[method] = efface.forget(original, data, request, method=method)
    model, seconds = made[method].model, made[method].record.seconds["forget"]
    print(f"{method:<12} {share_obeying(model):17.0%} {accuracy(model):10.1%} {seconds:9.2f}")

audit = efface.audit(made["undo"], data, retrained=made["retrain"])
made["undo"].save("poison_removed", overwrite=True)
efface.write_report(audit, made["undo"].record, "poison_removed")
print("\nundo, audited:", audit.verdict.headline)
print("Did it forget?", audit.verdict.answer)
