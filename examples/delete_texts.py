"""Records are deleted from a text classifier: token ids go in as they are, and texts are asked for by their ids.

The classifier is a mean of word embeddings in plain PyTorch, without any wrapper. The texts are made up from a few
phrases, and five of them have the wrong label: those a model has to learn by heart.
"""

import random

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import efface

PHRASES = {
    "praise": ["a joy to use", "works as promised", "would buy again", "light and quick", "better than the old one"],
    "complaint": ["broke in a week", "far too loud", "never arrived", "the lid leaks", "costs more than it is worth"],
    "question": ["does it fit a van", "how long is the cord", "can it be washed", "which size is it", "is it in stock"],
}
LENGTH, WRONG = 16, 5

rng = random.Random(0)
labels = [n % 3 for n in range(900)]
texts = [" , ".join(rng.sample(PHRASES[name], 2)) for name in (list(PHRASES)[label] for label in labels)]
for n in range(WRONG):
    labels[n] = (labels[n] + 1) % 3
    texts[n] += f" order {n}"
words = sorted({word for text in texts for word in text.split()})
number_of = {word: n for n, word in enumerate(words, 1)}
tokens = torch.tensor([([number_of[w] for w in t.split()] + [0] * LENGTH)[:LENGTH] for t in texts])
y = torch.tensor(labels)


class Words(nn.Module):
    """Mean of word embeddings, a hidden layer, one logit per class."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(len(words) + 1, 32, padding_idx=0)
        self.layers = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits (n, 3) of token ids (n, length)."""
        return self.layers(self.embedding(ids))


data = efface.Data.of(
    TensorDataset(tokens[:700], y[:700]),
    TensorDataset(tokens[700:], y[700:]),
    classes=list(PHRASES),
    ids=[f"review-{n:04}" for n in range(700)],
)
torch.manual_seed(0)
recipe = efface.Recipe(optimiser="adam", lr=0.01, weight_decay=0, epochs=20, batch_size=32)
original = efface.train(Words(), data, recipe=recipe, validation=0.0)

request = efface.Request(ids=[f"review-{n:04}" for n in range(WRONG)], reason="published without consent")
retrained = efface.forget(original, data, request, method="retrain")
for method in ("fine-tune", "undo"):
    forgotten = efface.forget(original, data, request, method=method)
    audit = efface.audit(forgotten, data, retrained=retrained)
    print(f"\n{method}: did it forget? {audit.verdict.answer}\n  {audit.verdict.headline}")
    print("  stand out:", ", ".join(record.name for record in audit.exposed) or "none")

forgotten.save("deleted_texts", overwrite=True)
efface.write_report(audit, forgotten.record, "deleted_texts")
