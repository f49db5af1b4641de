"""The operators of bench/ops.ts in PyTorch. Prints seconds per call for each JSON line on stdin."""
import json
import sys
import time

import torch

torch.set_num_threads(int(sys.argv[1]))
torch.set_grad_enabled(False)

small = torch.ones(4)
q, k, v = (torch.randn(8, 4096, 40) for _ in range(3))
image, kernel = torch.randn(1, 320, 64, 64), torch.randn(320, 320, 3, 3)
a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)


def attention():
    return torch.matmul(torch.softmax(torch.matmul(q * 40**-0.5, k.transpose(-1, -2)), dim=-1), v)


operations = {
    "tiny op": lambda: small.add(small),
    "attention": attention,
    "conv": lambda: torch.nn.functional.conv2d(image, kernel, padding=1),
    "matmul": lambda: torch.matmul(a, b),
}

for line in sys.stdin:
    request = json.loads(line)
    call = operations[request["name"]]
    begin = time.perf_counter()
    for _ in range(request["count"]):
        call()
    print((time.perf_counter() - begin) / request["count"], flush=True)
