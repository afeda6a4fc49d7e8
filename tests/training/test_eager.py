"""A process that trains has no compiler in it, until it compiles something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """\
import sys
import tunekit

def loaded():
    return any(name.startswith(("torch._dynamo.", "torch._inductor", "torchvision.")) for name in sys.modules)

for optimizer in ("AdamW", "MuSGD"):
    tunekit.train(
        model="yolo11p.yaml", imgsz=32, fraction=0.03, epochs=1, threads=1, plots=False, optimizer=optimizer
    )
    assert not loaded(), [name for name in sys.modules if "dynamo" in name or "torchvision" in name][:9]

import torch

graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward

assert torch.equal(torch.compile(lambda x: x + 1, backend=backend)(torch.ones(2)), torch.full((2,), 2.0))
assert graphs, "it was compiled"
assert loaded()
assert torch._dynamo.is_compiling() is False
optimizer = torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=0.1)
optimizer.step()

from torchvision.ops import nms

boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]])
assert nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]
"""


def test_training_loads_no_compiler_and_what_needs_it_gets_the_real_one(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
