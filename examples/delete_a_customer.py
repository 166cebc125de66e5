"""A customer is deleted from a model of a table, exactly: SISA retrains the shards that the customer was in.

Who expects deletions arranges the training for them: five networks, each trained on a fifth of the records, and kept
with its checkpoints. What is then deleted is gone bit for bit, at the price of smaller training sets. That holds by
construction, and not by the audit: seven ordinary rows of 2,400 leave no trace that any question could find.
"""

import time

import numpy as np
import pandas as pd

import efface

rng = np.random.default_rng(0)
customers = [f"C{n:04}" for n in range(400)]
table = pd.DataFrame(
    {
        "customer": rng.choice(customers, 3000),
        "plan": rng.choice(["basic", "family", "business"], 3000, p=[0.6, 0.3, 0.1]),
        "calls": rng.poisson(3, 3000),
        "minutes": rng.gamma(2, 60, 3000),
        "year": rng.integers(2021, 2026, 3000),
    }
)
risk = 0.5 * table.calls - 0.01 * table.minutes + 1.5 * (table.plan == "basic") - 1.5 + rng.normal(0, 0.5, 3000)
table["churn"] = np.where(risk > 0, "leaves", "stays")

data = efface.Data.of_table(table[:2400], table[2400:], label="churn", groups="customer", metadata=["year"])
print(data.input_shape[0], "features,", len(data.train), "rows for training, classes", data.classes)

recipe = efface.Recipe(lr=0.05, epochs=10, batch_size=64)
network = efface.ModelSpec(build="mlp", arguments={"hidden": [32]})
started = time.perf_counter()
original = efface.train(network, data, method="sisa", settings={"shards": 5}, recipe=recipe)
print(f"trained in {time.perf_counter() - started:.1f} s")

request = efface.Request(groups=["C0042"], reason="contract ended", ticket="DEL-17")
forgotten = efface.forget(original, data, request, method="sisa")
print(forgotten.record.counts.text)
for note in forgotten.record.notes:
    print("-", note)
print(f"forgotten in {forgotten.record.seconds['forget']:.1f} s")

audit = efface.audit(forgotten, data, retrained=True)
forgotten.save("deleted_customer", overwrite=True)
efface.write_report(audit, forgotten.record, "deleted_customer")
print(audit.verdict.headline)
print("Did it forget?", audit.verdict.answer)
