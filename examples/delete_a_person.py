# %% [markdown]
# # A person's images are deleted from an image folder
#
# A folder of photos, a table of who is on them, a classifier trained on all of it, and a person who asks to be deleted.
# The photos are scikit-learn's handwritten digits, given to 40 made-up people. Half a minute on a laptop, no network.

# %%
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

import efface

home = Path("deleted_person")

# %% [markdown]
# **What you have already**: images, and `manifest.csv` with a path, a label and whatever else is known of each.

# %%
digits = load_digits()
rows = []
for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
    path = Path("images") / str(label) / f"{number:04}.png"
    (home / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 15.9).astype("uint8")).save(home / "photos" / path)
    split = "test" if number % 4 == 0 else "train"
    rows.append({"path": path, "label": label, "split": split, "person": f"p{number * 7919 % 40:02}"})
pd.DataFrame(rows).to_csv(home / "photos" / "manifest.csv", index=False)

data = efface.load_data("manifest", home / "photos", groups="person", size=8)
print(len(data.train), "images, the first:", data.ids[0])

# %% [markdown]
# **Training**, with 20 canaries: records that nothing but memory gets right. Without them no audit could tell whether
# a person's 30 ordinary images were ever remembered.

# %%
torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 64), nn.ReLU(),
    nn.Linear(64, 10),
)  # fmt: skip
recipe = efface.Recipe(lr=0.05, epochs=20, batch_size=64)
original = efface.train(network, data, recipe=recipe, canaries=20)
original.save(home / "original", overwrite=True)

# %% [markdown]
# **The request.** Who asked, when and why stands in the record; `canaries=True` has the canaries forgotten, too.

# %%
request = efface.Request(
    groups=["p17"], canaries=True, reason="Art. 17 GDPR", requested_at="2026-11-02", ticket="DEL-812"
)

# %% [markdown]
# **Forgetting**, judged by four models that never saw the person. No method is named: cheap ones are tried first, on
# held-out training data; where none passes, the last one is retraining.

# %%
references = efface.train_references(original, data, request, 4, home / "references", backend="serial")
forgotten = efface.forget(original, data, request, retrained=references)
for note in forgotten.record.notes:
    print("-", note)

# %% [markdown]
# **The audit** asks what no search may: test data, and canaries. Where it still finds a difference, retraining remains.

# %%
audit = efface.audit(forgotten, data, retrained=references)
print(forgotten.record.method, "- did it forget?", audit.answer)
if audit.answer == "no":
    forgotten = efface.forget(original, data, request, method="retrain")
    audit = efface.audit(forgotten, data, retrained=references)

# %% [markdown]
# **What you hand on**: the new model, its record, and `report.html` for the person, the privacy officer and colleagues.

# %%
forgotten.save(home / "forgotten", overwrite=True)
efface.write_report(audit, forgotten.record, home / "forgotten")
print(forgotten.record.counts.text)
print(audit.verdict.headline)
print("Did it forget?", audit.answer)
