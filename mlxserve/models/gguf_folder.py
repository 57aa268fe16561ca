"""A GGUF file as an MLX folder, written once into the cache, layer by layer: no more than one layer is in memory."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlxserve.errors import UserError
from mlxserve.models.cache import cache_folder, publish
from mlxserve.models.gguf import GgufFile, GgufTensor
from mlxserve.models.gguf_blocks import BLOCKS, bytes_in_mlx, bytes_of, decode, to_mlx
from mlxserve.models.gguf_config import config_of
from mlxserve.models.gguf_family import LAYER_TENSOR, ROPE_FACTORS, Family, family_of, mlx_name
from mlxserve.models.gguf_tokenizer import check_tokenizer, write_tokenizer
from mlxserve.models.progress import Progress, Report

CONVERTER_VERSION = 2
"""Counts up when the same file would be converted differently: older results are then made anew."""


def folder_of(path: Path, report: Report) -> Path:
    """The converted folder of a GGUF file. Raises UserError if the file is broken or of a kind not supported."""
    file = GgufFile.read(path)
    family = family_of(file)
    check_tokenizer(file)
    try:
        return publish(_place(file), lambda folder: _Conversion(file, family, folder).run(report))
    except (OSError, RuntimeError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else str(error)
        raise UserError(
            f"{path} cannot be converted into {cache_folder()}: {reason}; make room there, or set XDG_CACHE_HOME."
        ) from error


def _place(file: GgufFile) -> Path:
    stat = file.path.stat()
    identity = f"{file.path.name} {stat.st_size} {stat.st_mtime_ns} {file.digest} {CONVERTER_VERSION}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return cache_folder() / "gguf" / f"{file.path.stem}-{digest}"


class _Conversion:
    def __init__(self, file: GgufFile, family: Family, folder: Path) -> None:
        self._file = file
        self._folder = folder
        self._config = config_of(file, family)
        self._family = family
        self._narrow = _activation_type(file.tensors.values())

    def run(self, report: Report) -> None:
        shards = self._shards()
        needed = sum(bytes_in_mlx(tensor) for shard in shards for tensor in shard)
        if shutil.disk_usage(self._folder).free < needed:
            raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed")
        write_tokenizer(self._file, self._folder)
        (self._folder / "config.json").write_text(json.dumps(self._config, indent=2))
        self._write(shards, Progress(report))

    def _shards(self) -> list[list[GgufTensor]]:
        """The tensors of each layer together, then all others: one file each."""
        shards = defaultdict(list)
        for tensor in self._file.tensors.values():
            match = LAYER_TENSOR.fullmatch(tensor.name)
            if tensor.name != ROPE_FACTORS:
                shards[int(match[1]) if match else -1].append(tensor)
        return [shards[layer] for layer in sorted(shards)]

    def _write(self, shards: list[list[GgufTensor]], progress: Progress) -> None:
        for number, tensors in enumerate(shards, 1):
            weights: dict[str, mx.array] = {}
            for tensor in tensors:
                weights |= self._arrays(tensor)
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            mx.save_safetensors(str(self._folder / name), weights, metadata={"format": "mlx"})
            progress.say(f"converting {self._file.path.name}", number, len(shards))
        mx.clear_cache()

    def _arrays(self, tensor: GgufTensor) -> dict[str, mx.array]:
        data = np.memmap(self._file.path, np.uint8, "r", tensor.start, (bytes_of(tensor),))
        name = mlx_name(self._file, self._family, tensor.name)
        module = name.removesuffix(".weight").removesuffix(".bias")
        arrays = {}
        for part, values in decode(tensor, data).items():
            path = name if part == "weight" else f"{module}.{part}"
            arrays[path] = self._narrowed(self._norm(tensor, to_mlx(tensor, values[self._row_order(tensor)])))
        return arrays

    def _norm(self, tensor: GgufTensor, array: mx.array) -> mx.array:
        with_one = self._family.norms_with_one and tensor.name.endswith("norm.weight")
        return array - 1 if with_one else array

    def _narrowed(self, array: mx.array) -> mx.array:
        """llama.cpp keeps all vectors in F32, which in MLX would make every activation F32 too."""
        return array.astype(self._narrow) if array.ndim == 1 else array

    def _row_order(self, tensor: GgufTensor) -> np.ndarray | slice:
        """Takes each head's rows of q and k from pairs back to halves, where the family was reordered."""
        part = tensor.name.split(".")[-2]
        if not self._family.interleaved_rotary or part not in ("attn_q", "attn_k"):
            return slice(None)
        heads = self._config["num_attention_heads" if part == "attn_q" else "num_key_value_heads"]
        return np.arange(tensor.shape[0]).reshape(heads, -1, 2).swapaxes(1, 2).ravel()


def _activation_type(tensors: Iterable[GgufTensor]) -> mx.Dtype:
    kinds = {tensor.type for tensor in tensors if len(tensor.shape) > 1}
    if kinds & {"F16", *BLOCKS}:
        return mx.float16
    return mx.bfloat16 if "BF16" in kinds else mx.float32
