"""The version, read from the installed package."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("hwsim")
except PackageNotFoundError:
    VERSION = "0+source"
