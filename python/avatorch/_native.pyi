"""The compiled module. Importing it registers `torch.ops.smplx`, `torch.ops.mel`, `torch.ops.audio2face`."""

from os import PathLike
from typing import Any, final

__all__ = [
    "Array",
    "build_info",
    "compile_kernels",
    "convert_model",
    "load_kernels",
    "load_model",
    "load_wav",
    "mel_options",
    "read_npz",
]

@final
class Array:
    @property
    def shape(self) -> list[int]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def is_mapped(self) -> bool: ...
    @staticmethod
    def __dlpack_device__() -> tuple[int, int]: ...
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...

def build_info() -> dict[str, Any]: ...
def compile_kernels(arch: str) -> list[tuple[str, list[str], list[str], str]]: ...
def convert_model(
    input: str | PathLike[str],
    output: str | PathLike[str],
    family: str | None = None,
    gender: str | None = None,
) -> list[str]: ...
def load_kernels(device: int) -> None: ...
def load_model(path: str | PathLike[str], family: str | None = None, gender: str | None = None) -> dict[str, Any]: ...
def load_wav(path: str | PathLike[str], sample_rate: int | None = None) -> tuple[Array, int]: ...
def mel_options(convention: str) -> dict[str, Any]: ...
def read_npz(path: str | PathLike[str]) -> list[tuple[str, str, list[int], Any]]: ...
