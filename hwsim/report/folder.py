"""A report as files: ``report.json``, ``layers.csv`` and plots in one folder that appears whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from hwsim.core.report import Report
from hwsim.core.rows import build_dict, build_flat_rows
from hwsim.report.files import open_folder_atomically


def format_json(report: Report) -> str:
    """Return a report as JSON with stable keys; see `hwsim.core.rows`."""
    return json.dumps(build_dict(report), indent=2, allow_nan=False)


def format_csv(report: Report) -> str:
    """Return one line a layer with a head line; columns as in ``Report.to_frame``."""
    rows = build_flat_rows(report)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["name"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_folder(report: Report, path: str | Path) -> None:
    """Write ``report.json``, ``layers.csv``, ``roofline.png``, ``energy.png`` and ``cycles.png``.

    Raises
    ------
    InputError
        The folder cannot be written; nothing is left behind then.
    """
    from hwsim.report.plots import write_plots

    with open_folder_atomically(path) as staging:
        (staging / "report.json").write_text(format_json(report) + "\n", encoding="utf-8")
        (staging / "layers.csv").write_text(format_csv(report), encoding="utf-8")
        write_plots(report, staging)
