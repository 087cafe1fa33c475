//! The table for people.

use std::fmt::Write;

use crate::row::{CONDITIONS, FLOOR, OURS, Row};

/// All rows, bench by bench, with their ratios to the floor and of each subject to ours.
pub fn render(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows.iter().filter(|row| row.subject == CONDITIONS) {
        _ = writeln!(text, "{}", row.note);
    }
    for bench in benches(rows) {
        block(&mut text, bench, rows);
    }
    text
}

/// The names of the benches, in the order of their first rows.
pub fn benches(rows: &[Row]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| row.subject != CONDITIONS) {
        if !names.contains(&row.bench.as_str()) {
            names.push(&row.bench);
        }
    }
    names
}

fn block(text: &mut String, bench: &str, rows: &[Row]) {
    let of = |subject: &str| rows.iter().find(|row| row.bench == bench && row.subject == subject);
    let floor = of(FLOOR).and_then(|row| row.p50);
    let ours = of(OURS).and_then(|row| row.p50);
    let unit = of(OURS).map_or("", |row| &row.unit);
    _ = writeln!(text, "\n{bench} [{unit}]");
    _ = writeln!(text, "  {:<18}{:>11}{:>11}{:>9}{:>9}  ", "subject", "p50", "p99", "x floor", "x ours");
    for row in rows.iter().filter(|row| row.bench == bench) {
        let ratio =
            |to: Option<f64>| figure(row.p50.zip(to).filter(|pair| pair.1 != 0.0).map(|(p, q)| p / q));
        let (p50, p99) = (figure(row.p50), figure(row.p99));
        let (x_floor, x_ours) = (ratio(floor), ratio(ours));
        let line = format!("  {:<18}{p50:>11}{p99:>11}{x_floor:>9}{x_ours:>9}  {}", row.subject, row.note);
        _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Three digits that matter.
pub fn figure(value: Option<f64>) -> String {
    match value {
        None => String::from("-"),
        Some(value) if value != 0.0 && value.abs() < 10.0 => format!("{value:.2}"),
        Some(value) if value.abs() < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}
