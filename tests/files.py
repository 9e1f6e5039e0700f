"""Files of answers, made in memory as schools send them."""

import csv
import io
from collections.abc import Iterable, Mapping

import xlsxwriter

ITEMS = {"phq9": 9, "gad7": 7, "psc17": 17}
Cells = Mapping[str, object]


def answers(code: str, fill: object = 0, **changed: object) -> dict[str, object]:
    """One form: every item the same, but for those named."""
    return {f"{code}_{number}": fill for number in range(1, ITEMS[code] + 1)} | changed


def phq9(number: object, fill: object = 0, **changed: object) -> dict[str, object]:
    """A row with one student's PHQ-9."""
    return {"student_number": number, **answers("phq9", fill, **changed)}


def gad7(number: object, fill: object = 0, **changed: object) -> dict[str, object]:
    return {"student_number": number, **answers("gad7", fill, **changed)}


def both(number: object, fill: object = 0, **changed: object) -> dict[str, object]:
    """A row with one student's PHQ-9 and GAD-7."""
    return phq9(number, fill) | gad7(number, fill) | changed


def of_informant(number: object, informant: str, fill: object = 0, **changed: object) -> dict[str, object]:
    """A row with one informant's PSC-17, named as its columns are where several answer."""
    return {"student_number": number, **{f"psc17_{informant}_{i}": fill for i in range(1, 18)}, **changed}


def columns_of(rows: Iterable[Cells]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def csv_of(*rows: Cells, encoding: str = "utf-8", delimiter: str = ",") -> bytes:
    """Comma-separated text; a cell that a row does not have is blank."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns_of(rows), restval="", delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode(encoding)


def xlsx_of(*rows: Cells, sheet: str = "Sheet1") -> bytes:
    """A workbook with one sheet, numbers as numbers."""
    out = io.BytesIO()
    columns = columns_of(rows)
    with xlsxwriter.Workbook(out, {"in_memory": True}) as workbook:
        written = workbook.add_worksheet(sheet)
        written.write_row(0, 0, columns)
        for position, row in enumerate(rows, start=1):
            written.write_row(position, 0, [row.get(name, "") for name in columns])
    return out.getvalue()
