"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hwsim.core.errors import InputError


def check_writable(path: str | Path, *, folder: bool) -> None:
    """Raise InputError when ``path`` cannot be written; nothing is left behind.

    Parameters
    ----------
    path : str or Path
        What will be written.
    folder : bool
        Whether it will be a folder (created with its parents) or a file (its folder has to exist).
    """
    target = Path(path)
    try:
        if folder:
            if target.exists() and not target.is_dir():
                raise InputError(str(path), ["is a file, a folder is needed"])
            home = next(parent for parent in (target, *target.absolute().parents) if parent.exists())
        else:
            if target.is_dir():
                raise InputError(str(path), ["is a folder, a file is needed"])
            home = target.absolute().parent
            if not home.is_dir():
                raise InputError(str(path), [f"there is no folder {home}"])
        with tempfile.TemporaryDirectory(prefix=".hwsim-", dir=home):
            pass
    except OSError as error:
        raise InputError(str(path), [f"cannot be written: {error.strerror or error}"]) from None


@contextlib.contextmanager
def open_atomically(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; it takes its place when the block ends well, and goes when it does not.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(
            prefix=".hwsim-", suffix="".join(target.suffixes[-2:]), dir=target.absolute().parent
        )
    except OSError as error:
        raise InputError(str(path), [f"cannot be written: {error.strerror or error}"]) from None
    os.close(handle)
    try:
        yield Path(name)
        _give_usual_mode(name, 0o666)
        os.replace(name, target)
    except OSError as error:
        raise InputError(str(path), [f"cannot be written: {error.strerror or error}"]) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


@contextlib.contextmanager
def open_folder_atomically(path: str | Path) -> Iterator[Path]:
    """Give an empty temporary folder; when the block ends well its files move to ``path``, else they go.

    A new folder appears in one rename. In a folder that exists each file is replaced in one step, the others stay.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    target = Path(path)
    staging = ""
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        exists = target.is_dir()
        staging = tempfile.mkdtemp(prefix=".hwsim-", dir=target if exists else target.absolute().parent)
        yield Path(staging)
        for item in sorted(Path(staging).iterdir()):
            _give_usual_mode(str(item), 0o666)
            if exists:
                os.replace(item, target / item.name)
        if not exists:
            _give_usual_mode(staging, 0o777)
            os.rename(staging, target)
    except OSError as error:
        raise InputError(str(path), [f"cannot be written: {error.strerror or error}"]) from error
    finally:
        if staging:
            shutil.rmtree(staging, ignore_errors=True)


def _give_usual_mode(path: str, mode: int) -> None:
    # Temporary files are private; a result gets the mode that a plain open or mkdir would have given it.
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, mode & ~mask)
