"""Tune a small YOLO on the embedded digits from Python, train with the best, measure on the test images.

    python examples/tune_digits.py

Takes a few minutes on two CPU cores; everything lands in runs/.
"""

import tunekit

run = tunekit.tune(
    data="digits",
    model="yolo11p.yaml",
    imgsz=96,
    epochs=24,
    nbs=16,
    iterations=12,
    space="quick",
    name="example",
)
for trial in sorted(run.trials, key=lambda trial: trial.fitness or 0, reverse=True)[:3]:
    print(trial.number, trial.state, trial.fitness, trial.params)

folder = tunekit.train(cfg=run.path / "best_hyperparameters.yaml", seed=1, name="example")
metrics = tunekit.val(model=folder / "weights" / "best.pt", split="test")
print(f"mAP50-95 on images that no search has seen: {metrics.map:.3f}")
