# SPDX-License-Identifier: Apache-2.0
"""What the checks of a task say of the rows: severities, waivers, and the report to work through."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError, PluginError, printable
from ..files import read_file, require_file
from ..messages import language, speaker
from ..plugin_api.components import Check, Finding, Severity
from ..plugin_api.types import Record
from ..runs.folder import write_text
from ..runs.provenance import digest
from ..terminal import UNSEEN

if TYPE_CHECKING:
    from ..plan import Plan

say = speaker(__name__)

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "hint")
_FORMULA = re.compile(rf"(?:^|(?<=[;\t\r\n]))(?=[{UNSEEN}]*[=+\-@＝＋－＠]|[\t\r])")
_LARGEST = 100_000_000  # bytes of a report that is read
_COLUMNS = ("severity", "check", "where", "message", "excerpt")  # for people
_KEPT = ("waive", "id")  # read again, so in no language


@dataclass(frozen=True)
class PlacedFinding:
    """One finding, placed.

    Attributes:
        where: the rows it is about, as the user calls them, the one to change first.
        id: what a waiver names: it changes when the check, a row or the words it is about change.
        private: see ``Check.private``.
        waived: why it may stay; empty if it is not waived.
    """

    check: str
    severity: Severity
    where: tuple[str, ...]
    message: str
    excerpt: str
    id: str
    waived: str = ""
    private: bool = False

    def line(self) -> str:
        """The finding as one line for the terminal."""
        others = say(" (also {rows})", rows="; ".join(self.where[1:4])) if len(self.where) > 1 else ""
        excerpt = f" «{self.excerpt}»" if self.excerpt else ""
        return f"{self.where[0]}: {check_name(self.check)}: {self.message}{excerpt}{others}"


def check_name(check: str) -> str:
    """A check as people read it: what it is called in their language, with the name that configs and waivers use."""
    said = say(check)
    return check if said == check else f"{said}（{check}）"


def run_checks(plan: Plan, records: Sequence[Record]) -> tuple[PlacedFinding, ...]:
    """All that the checks find, the worst first, each check's in the order of the rows.

    Raises:
        PluginError: if a check fails: without it the data would count as checked.
    """
    reasons = read_waivers(Path(plan.config.waivers)) if plan.config.waivers else {}
    prints = [record.content_hash() for record in records]
    found: list[tuple[Any, PlacedFinding]] = []
    for check in plan.checks:
        level = plan.config.checks.get(check.name)
        if level == "off":
            continue
        for finding in _findings(check, plan, records):
            severity = _severity(check.severity, finding.severity, level)
            rows = [records[i] for i in finding.rows]
            # The letter keeps spreadsheets from taking it for a number.
            name = "w" + digest([check.name, [prints[i] for i in finding.rows], finding.excerpt])[:16]
            by = next((r.review.reviewer or say("in the data") for r in rows if {check.name, "*"} & set(r.review.waived)), "")
            placed = PlacedFinding(
                check.name,
                severity,
                tuple(r.where for r in rows),
                finding.message,
                finding.excerpt,
                name,
                reasons.get(name, "") or by,
                check.private,
            )
            found.append(((SEVERITIES.index(severity), check.name, finding.rows), placed))
    return tuple(placed for _, placed in sorted(found, key=lambda pair: pair[0]))


def _severity(usual: Severity, own: Severity | None, wanted: Severity | None) -> Severity:
    """The user's word counts, but a finding that its check itself takes for milder than usual does not become worse by it."""
    level = wanted or usual
    return max(own or level, level, key=SEVERITIES.index) if wanted else own or usual


def lapsed(plan: Plan, found: Sequence[PlacedFinding]) -> int:
    """How many reasons in the report of ``waivers`` belong to nothing that is found any more."""
    return len(set(read_waivers(Path(plan.config.waivers))) - {one.id for one in found}) if plan.config.waivers else 0


def unknown_waivers(plan: Plan, records: Sequence[Record]) -> dict[str, str]:
    """Names in the rows' own waivers that no check has, with the first row: a misspelt one waives nothing."""
    names = {check.name for check in plan.checks} | {"*"}
    return {name: record.where for record in reversed(records) for name in record.review.waived if name not in names}


def _findings(check: Check[Any], plan: Plan, records: Sequence[Record]) -> Iterable[Finding]:
    try:
        made = list(check.run(plan.config, plan.keys, records))
        for one in made:
            if not isinstance(one, Finding) or not one.rows or not all(0 <= row < len(records) for row in one.rows):
                raise TypeError(f"{one!r:.200}")
            if not {one.severity or check.severity, check.severity} <= set(SEVERITIES):
                raise ValueError(f"severity {one.severity or check.severity!r}")
        return made
    except (DataError, ConfigError, KeyboardInterrupt):  # a word list that is not there, say
        raise
    except BaseException as error:  # a plugin that leaves the program leaves the data unchecked
        raise PluginError(
            say("the check '{name}' failed: {error}. checks: {{{name}: off}} leaves it out.", name=check.name, error=_reason(error))
        ) from error


def _reason(error: BaseException) -> str:
    return str(error).rstrip(".") if isinstance(error, PluginError) else repr(error)


def stopping(found: Sequence[PlacedFinding], stop_on: str) -> list[PlacedFinding]:
    """Those that stop a run."""
    levels = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[stop_on]
    return [one for one in found if one.severity in levels and not one.waived]


def explain(stops: Sequence[PlacedFinding]) -> list[str]:
    """The findings that stop a run, and what can be done about them."""
    if not stops:
        return []
    return [
        *(one.line() for one in stops),
        say(
            "{n} findings stop the run. Mend the rows; or waive a finding that may stay, with the check's name in the column 'waive' of "
            "its row or with waivers: REPORT.csv; or turn it down with checks: {{{check}: warning}}.",
            n=len(stops),
            check=stops[0].check,
        ),
    ]


def counts(found: Sequence[PlacedFinding]) -> dict[str, int]:
    """How many findings of each severity are open, and how many are waived."""
    open_ = Counter(one.severity for one in found if not one.waived)
    return {**{level: open_[level] for level in SEVERITIES}, "waived": sum(1 for one in found if one.waived)}


def waived(found: Sequence[PlacedFinding]) -> list[dict[str, Any]]:
    """The waived findings for the manifest: which row, how bad, and why it may stay."""
    return [{"check": o.check, "severity": o.severity, "where": list(o.where), "reason": o.waived} for o in found if o.waived]


def by_check(found: Sequence[PlacedFinding]) -> list[tuple[str, Severity, int, PlacedFinding]]:
    """(check, severity, open findings, the first of them), the worst first: for a summary."""
    first: dict[tuple[str, Severity], PlacedFinding] = {}
    number: Counter[tuple[str, Severity]] = Counter()
    for one in found:
        if not one.waived:
            first.setdefault((one.check, one.severity), one)
            number[one.check, one.severity] += 1
    return [(check, severity, number[check, severity], one) for (check, severity), one in first.items()]


# --- the report --------------------------------------------------------------------------------------------------------------


def write_report(found: Sequence[PlacedFinding], path: Path, title: str) -> None:
    """The findings as CSV, to be worked through in a spreadsheet, or as a page to read, by the suffix of ``path``. Reasons
    that somebody has written into an earlier CSV of that name are kept.

    Raises:
        ConfigError: if it is neither.
    """
    kind = path.suffix.lower()
    if kind not in (".csv", ".html", ".htm"):
        raise ConfigError(say("--report {path}: the report is a .csv (to work through) or an .html (to read).", path=path))
    try:
        _write(found, path, title)
    except OSError as error:
        raise ConfigError(say("--report {path}: cannot be written: {error}.", path=path, error=error)) from None


def _write(found: Sequence[PlacedFinding], path: Path, title: str) -> None:
    if path.suffix.lower() != ".csv":
        write_text(path, _html(found, title))
        return
    typed = _typed(path)
    if set(typed) - {one.id for one in found}:  # reasons for what is found no more: somebody's work all the same
        number = 1
        while (kept := path.with_name(f"{path.stem}.before-{number}{path.suffix}")).exists():
            number += 1
        os.replace(path, kept)
    write_text(path, _csv(found, typed))


def _typed(path: Path) -> Mapping[str, str]:
    """The reasons that somebody has written into an earlier report of that name."""
    if not path.is_file():
        return {}
    try:
        return read_waivers(path)
    except DataError:
        return {}


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: not at its beginning, and not behind what another country's spreadsheet takes for a
    separator."""
    return _FORMULA.sub("'", cell)


def _csv(found: Sequence[PlacedFinding], typed: Mapping[str, str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*map(say, _COLUMNS), *_KEPT])
    for one in found:
        cells = (
            say(one.severity),
            check_name(one.check),
            "; ".join(one.where),
            one.message,
            one.excerpt,
            one.waived or typed.get(one.id, ""),
            one.id,
        )
        writer.writerow([harmless(printable(cell)) for cell in cells])
    return "\ufeff" + out.getvalue()  # Excel takes a file without the mark for the local encoding


def _html(found: Sequence[PlacedFinding], title: str) -> str:
    import jinja2

    labels = {"error": say("errors"), "warning": say("warnings"), "hint": say("hints"), "waived": say("waived")}
    heads = [say("severity"), say("check"), say("where"), say("what, and what to do")]
    page = jinja2.Environment(autoescape=True, finalize=_shown).from_string(
        resources.files(__package__).joinpath("findings.html").read_text(encoding="utf-8")
    )
    return (
        page.render(
            lang=language(), found=found, title=title, labels=labels, heads=heads, summary=list(counts(found).items()), name=check_name
        )
        + "\n"
    )


def _shown(value: Any) -> Any:
    """What a page shows of a value; what is markup stays markup."""
    return type(value)(printable(value)) if isinstance(value, str) else value


def read_waivers(path: Path) -> Mapping[str, str]:
    """Reasons by the finding's id, from a CSV report in whose column ``waive`` somebody wrote.

    Raises:
        DataError: if it is no such report.
    """
    if path.suffix.lower() in (".xlsx", ".xls", ".et"):
        raise DataError(say("waivers: {path} is a workbook. Save it as CSV (in Excel: File, Save as, CSV UTF-8).", path=path))
    try:
        if require_file(path).st_size > _LARGEST:
            raise DataError(say("waivers: {path} is larger than any report ({n} MB).", path=path, n=_LARGEST // 1_000_000))
        data = read_file(path, _LARGEST)
    except OSError as error:
        raise DataError(say("waivers: {path} cannot be read: {error}.", path=path, error=error)) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("gb18030", "replace")  # what Excel in Chinese saves
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise DataError(say("waivers: {path} cannot be read: {error}.", path=path, error=error)) from None
    missing = [name for name in ("waive", "id") if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            say(
                "waivers: {path} is no report of `loraforge check --report FILE.csv`: it has no column '{name}'.",
                path=path,
                name=missing[0],
            )
        )
    return {str(row["id"]).strip(): reason for row in rows if (reason := str(row["waive"] or "").strip())}


def _delimiter(text: str) -> str:
    head = text.split("\n", 1)[0]
    return max((",", ";", "\t"), key=head.count)
