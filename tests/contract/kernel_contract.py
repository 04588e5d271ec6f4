"""An import-linter contract: files named ``kernel*.py`` import a few named modules and other kernel files alone."""

from __future__ import annotations

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


def is_kernel(module: str) -> bool:
    """Return whether a dotted name is that of a kernel file."""
    return module.rpartition(".")[2].startswith("kernel")


class KernelContract(Contract):
    """Holds when every kernel file imports ``allowed`` modules and kernel files alone."""

    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Look at the direct imports of every kernel file; ``from __future__`` is free."""
        found = [
            f"{module} imports {target}"
            for module in sorted(filter(is_kernel, graph.modules))
            for target in sorted(graph.find_modules_directly_imported_by(module))
            if target not in self.allowed and target != "__future__" and not is_kernel(target)
        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print what is not allowed, one line an import."""
        for line in check.metadata["found"]:
            output.print_error(line)
