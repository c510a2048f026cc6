"""A training step of CroCo ViT-B/16 beside a plain restatement of the published model: time, memory, share of sgemm speed.

Both start from the same weights and see the same eight pairs and masks; their steps alternate in one process, which begins with
comparing their losses. A step is forward, backward and AdamW: the restatement's as torch makes it by default, twoview's fused.
Memory is the peak of a process of its own for each. On a CPU in float32; on a GPU nothing was measured.

    .venv/bin/python benchmarks/step.py
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from twoview.pretraining.data import Batch
from twoview.pretraining.published import Hints, understand
from twoview.pretraining.vit import IMAGENET_MEAN, IMAGENET_STD

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reference"))
from plain_croco import PlainCroCo

BATCH, ROUNDS = 8, 6


def models():
    """By name: what computes the loss, and the optimiser."""
    torch.manual_seed(0)
    plain = PlainCroCo()
    ours = understand(plain.state_dict(), Hints()).model.train()
    a, b = (torch.randint(256, (BATCH, 3, 224, 224), dtype=torch.uint8) for _ in "ab")
    batch = Batch(a=a, b=b, seeds=torch.arange(BATCH))
    hidden = torch.zeros(BATCH, 196, dtype=torch.bool).scatter_(1, ours.split(batch)[1], True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    a, b = ((x / 255 - mean) / std for x in (a, b))
    return {
        "plain": (lambda: plain(a, b, hidden)[0], torch.optim.AdamW(plain.parameters(), 1e-6)),
        "twoview": (lambda: ours(batch)["loss"], torch.optim.AdamW(ours.parameters(), 1e-6, fused=True)),
    }


def step(loss, optimiser):
    """Seconds of forward and backward, and of the optimiser."""
    began = time.perf_counter()
    optimiser.zero_grad()
    loss().backward()
    middle = time.perf_counter()
    optimiser.step()
    return middle - began, time.perf_counter() - middle


def sgemm_gflops() -> float:
    """The best of several multiplications of square matrices."""
    a, b = torch.randn(2, 3072, 3072)
    best = np.inf
    for _ in range(6):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * 3072**3 / best / 1e9


def peak_gib(name: str) -> float:
    done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    found = models()
    losses = {name: float(loss().detach()) for name, (loss, _) in found.items()}
    print(f"CroCo ViT-B/16, batch {BATCH}, {torch.get_num_threads()} threads, float32, torch {torch.__version__}")
    print(f"losses before the first step: {', '.join(f'{name} {loss:.6f}' for name, loss in losses.items())}")
    gflops = {}
    for name, (loss, _) in found.items():
        with FlopCounterMode(display=False) as counter:
            loss().backward()
        gflops[name] = counter.get_total_flops() / 1e9
    times, sgemm = {name: [] for name in found}, []
    for _ in range(ROUNDS):
        sgemm.append(sgemm_gflops())
        for name, (loss, optimiser) in found.items():
            times[name].append(step(loss, optimiser))
    speed = float(np.median(sgemm))
    print(f"sgemm {speed:.0f} GFLOP/s\n")
    print("          samples/s   forward + backward s   optimiser s   GFLOP a pair   share of sgemm   peak GiB")
    for name, seconds in times.items():
        there, optimiser = np.median(seconds, axis=0)
        share = gflops[name] / there / speed
        print(
            f"{name:9} {BATCH / (there + optimiser):9.2f} {there:22.2f} {optimiser:13.2f} {gflops[name] / BATCH:14.0f}"
            f" {share:16.0%} {peak_gib(name):10.2f}"
        )
    ratio = np.array(times["plain"]) / np.array(times["twoview"])
    whole = np.sum(times["plain"], axis=1) / np.sum(times["twoview"], axis=1)
    print(f"\ntwoview is {np.median(whole):.2f} times as fast a step ({whole.min():.2f} to {whole.max():.2f} in {ROUNDS} rounds),")
    print(f"{np.median(ratio[:, 0]):.2f} times without the optimiser ({ratio[:, 0].min():.2f} to {ratio[:, 0].max():.2f})")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        chosen = models()[sys.argv[1]]
        for _ in range(2):
            step(*chosen)
        words = Path("/proc/self/status").read_text().split()  # ru_maxrss would begin with that of the parent
        print(int(words[words.index("VmHWM:") + 1]) / 2**20)
    else:
        main()
