"""A class is removed from a timm model: from your checkpoint to a checkpoint that timm loads again.

The network is one of timm's small test models, built from its configuration, and trained here on enlarged digits in
place of yours. No pretrained weights are downloaded.
"""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

import efface
from efface.running.extras import import_timm

timm = import_timm()  # `import timm`, and it works beside a torchvision whose compiled operators do not load

digits = load_digits()
x = torch.from_numpy(digits.images / 16).float()[:, None].expand(-1, 3, 8, 8)
x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
y = torch.from_numpy(digits.target)
train, test = TensorDataset(x[:1347], y[:1347]), TensorDataset(x[1347:], y[1347:])

# Your training script, as it is.
torch.manual_seed(0)
model = timm.create_model("test_resnet", num_classes=10)
optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(10):
    for batch in torch.randperm(len(train)).split(64):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimiser.step()
torch.save({"state_dict": model.state_dict(), "arch": "test_resnet"}, "weights.pth")

# Forgetting: how it is built, where its weights are, and how it was trained.
data = efface.Data.of(train, test, classes=[str(d) for d in range(10)])
spec = efface.ModelSpec(build="timm.create_model", arguments={"model_name": "test_resnet"}, weights="weights.pth")
recipe = efface.Recipe(optimiser="adamw", lr=3e-3, weight_decay=0.01, epochs=10, batch_size=64)
original = efface.import_checkpoint(spec, data, recipe=recipe)
request = efface.Request(classes=["3"])
forgotten = efface.forget(original, data, request, method="project-distil")
reference = efface.forget(original, data, request, method="retrain", seed=1)  # what it is compared with
audit = efface.audit(forgotten, data, retrained=reference)
print(audit.verdict.headline)
print("project-distil - did it forget?", audit.answer)

# A cheap method may end elsewhere than retraining would: here it rejects the class more than a model that never saw it,
# by which the audit tells the two apart. Then retraining remains, and that is what goes back into timm.
if audit.answer == "no":
    forgotten = efface.forget(original, data, request, method="retrain")
    audit = efface.audit(forgotten, data, retrained=reference)
    print("retrain - did it forget?", audit.answer)
forgotten.save("class_removed", overwrite=True)
efface.write_report(audit, forgotten.record, "class_removed")

# Back into timm, in the format in which the weights came.
forgotten.export("new.pth", overwrite=True)
again = timm.create_model("test_resnet", num_classes=10)
again.load_state_dict(torch.load("new.pth", weights_only=True)["state_dict"])
again.eval()
with torch.no_grad():
    said = again(x[1347:])
    assert torch.equal(said, forgotten.model(x[1347:]))
for name, asked in (("class 3", y[1347:] == 3), ("the others", y[1347:] != 3)):
    print(f"accuracy of timm's model on {name}: {(said.argmax(1) == y[1347:])[asked].float().mean():.1%}")
