//! A report: the rows of one program, printed, written and drawn.

use std::path::PathBuf;
use std::{fs, io};

use crate::row::Row;
use crate::{chart, table};

/// Where the reports lie.
fn results() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results")
}

/// Prints the table; writes `<subject>.json` and `<subject>.svg`, or their `.quick` namesakes.
pub fn publish(subject: &str, rows: &[Row]) -> io::Result<()> {
    print!("{}", table::render(rows));
    let stem = if crate::is_quick() { format!("{subject}.quick") } else { subject.to_owned() };
    fs::create_dir_all(results())?;
    fs::write(results().join(format!("{stem}.json")), json(rows)?)?;
    fs::write(results().join(format!("{stem}.svg")), chart::draw(subject, rows))
}

/// The rows of a report written earlier.
pub fn read(subject: &str) -> io::Result<Vec<Row>> {
    let text = fs::read_to_string(results().join(format!("{subject}.json")))?;
    Ok(serde_json::from_str(&text)?)
}

/// Draws `<subject>.svg` anew from its report.
pub fn redraw(subject: &str) -> io::Result<()> {
    let rows = read(subject)?;
    fs::write(results().join(format!("{subject}.svg")), chart::draw(subject, &rows))
}

/// A list with one row on each line, so that a change shows as the rows it changed.
fn json(rows: &[Row]) -> io::Result<String> {
    let lines: Vec<String> = rows.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}
