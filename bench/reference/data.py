"""Prepares the rows of bench/data.ts with Pillow and NumPy, like torchvision and transformers. Prints seconds per image
for each JSON line on stdin. With several cores, one process for each shares the images."""
import io
import json
import multiprocessing
import sys
import tarfile
import time

import numpy as np
from PIL import Image

cores, path = int(sys.argv[1]), sys.argv[2]
CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


def shortest_edge(image, size, filter):
    width, height = image.size
    if width <= height:
        return image.resize((size, int(size * height / width)), filter)
    return image.resize((int(size * width / height), size), filter)


def crop(image, size):
    left, top = (image.size[0] - size) // 2, (image.size[1] - size) // 2
    return image.crop((left, top, left + size, top + size))


def decode(jpeg):
    return Image.open(io.BytesIO(jpeg)).convert("RGB")


def vae_crop(image):
    return crop(shortest_edge(image, 512, Image.BILINEAR), 512)


def clip_crop(image):
    return crop(shortest_edge(image, 224, Image.BICUBIC), 224)


def row(jpeg):
    image = decode(jpeg)
    vae = np.ascontiguousarray(np.asarray(vae_crop(image)).transpose(2, 0, 1)).astype(np.float32) / 255
    vae = (vae - 0.5) / 0.5
    clip = np.asarray(clip_crop(image)).astype(np.float32) * np.float32(1 / 255)
    clip = np.ascontiguousarray(((clip - CLIP_MEAN) / CLIP_STD).transpose(2, 0, 1))
    return float(vae[0, 0, 0] + clip[0, 0, 0])


def members(worker):
    """Yields every `cores`-th image of the tar, starting with number `worker`."""
    with tarfile.open(path) as tar:
        number = 0
        for member in tar:
            if not member.name.endswith(".jpg"):
                continue
            if number % cores == worker:
                yield tar.extractfile(member).read()
            number += 1


def torchvision_rows(workers):
    """Reads all rows as a training script does: a Dataset with torchvision's transforms, and a DataLoader with `workers` processes."""
    import torch
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    vae = transforms.Compose([
        transforms.Resize(512, interpolation=InterpolationMode.BILINEAR),
        transforms.CenterCrop(512),
        transforms.ToTensor(),
        transforms.Normalize([0.5], [0.5]),
    ])
    clip = transforms.Compose([
        transforms.Resize(224, interpolation=InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(CLIP_MEAN.tolist(), CLIP_STD.tolist()),
    ])

    class Rows(torch.utils.data.Dataset):
        def __init__(self):
            with tarfile.open(path) as tar:
                self.jpegs = [tar.extractfile(m).read() for m in tar if m.name.endswith(".jpg")]

        def __len__(self):
            return len(self.jpegs)

        def __getitem__(self, i):
            image = decode(self.jpegs[i])
            return vae(image), clip(image)

    torch.set_num_threads(1)
    return torch.utils.data.DataLoader(Rows(), batch_size=4, num_workers=workers, persistent_workers=workers > 0)


images = {}


def share(work):
    name, worker = work
    if name == "whole rows":
        for jpeg in members(worker):
            row(jpeg)
    elif name == "decode alone":
        for jpeg in members(worker):
            decode(jpeg)
    else:
        if worker not in images:
            images[worker] = [decode(jpeg) for jpeg in members(worker)]
        call = {"VAE crop alone": vae_crop, "CLIP crop alone": clip_crop}[name]
        for image in images[worker]:
            call(image)


torchvision = None
pool = multiprocessing.Pool(cores) if cores > 1 else None
for line in sys.stdin:
    request = json.loads(line)
    if request["name"] == "whole rows, torchvision" and torchvision is None:
        try:
            torchvision = torchvision_rows(cores if cores > 1 else 0)
        except (ImportError, RuntimeError):  # a torchvision for another torch
            print("nan", flush=True)
            continue
    begin = time.perf_counter()
    if request["name"] == "whole rows, torchvision":
        for _ in torchvision:
            pass
        print((time.perf_counter() - begin) / request["count"], flush=True)
        continue
    work = [(request["name"], worker) for worker in range(cores)]
    if pool:
        pool.map(share, work, chunksize=1)
    else:
        share(work[0])
    print((time.perf_counter() - begin) / request["count"], flush=True)
