"""A job on a server: train there, watch it, and predict over gRPC.

The server is embedded in this process so that the example runs alone; elsewhere `relaxon serve` starts one. The job
outlives the client: its name finds it again from any machine.
"""

import matplotlib.pyplot as plt
import numpy as np

import relaxon
from relaxon.client import BoostingSettings
from relaxon.server.app import EmbeddedServer

rng = np.random.default_rng(0)
X = rng.uniform(-3, 3, (400, 1))
y = np.sin(2 * X[:, 0]) + 0.2 * X[:, 0] ** 2 + 0.2 * rng.standard_normal(400)

with EmbeddedServer() as server:
    with relaxon.connect(server.target) as client:
        settings = BoostingSettings(n_units=40, random_state=0)
        name = client.boosting.train(X, y, settings=settings, model="wave").name
    with relaxon.connect(server.target) as client:  # another client, which knows the job's name alone
        job = client.boosting.job(name)
        losses = [stage.loss for stage in job.progress()]
        model = job.result(timeout=120)
        print(f"{model.name}: {model.units} units, {model.outcome}, training loss {losses[0]:.3f} → {losses[-1]:.3f}")
        line = np.linspace(-3, 3, 200)[:, None]
        predicted = client.boosting.predict("wave", line)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(losses)
left.set(xlabel="stage", ylabel="training loss", title="progress of the job")
right.plot(X[:, 0], y, ".", markersize=3, label="rows")
right.plot(line[:, 0], predicted, label="prediction of the served model")
right.legend()
plt.show()
