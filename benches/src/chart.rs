//! The chart: a panel of bars for each bench.

use std::fmt::Write;

use crate::row::{CONDITIONS, OURS, Row};
use crate::table::{benches, figure};

const COLUMNS: usize = 3;
const PANEL: f64 = 400.0;
const NAMES: f64 = 110.0;
const BARS: f64 = 215.0;
const LINE: f64 = 14.0;
const HEAD: f64 = 26.0;
const GAP: f64 = 18.0;
const TOP: f64 = 56.0;

/// From this ratio of the longest to the shortest bar on, bars are on a logarithmic scale.
const LOG_FROM: f64 = 20.0;

/// Draws all rows.
pub fn draw(title: &str, rows: &[Row]) -> String {
    let panels: Vec<Vec<&Row>> = benches(rows).iter().map(|bench| of(bench, rows)).collect();
    let mut body = String::new();
    let mut y = TOP;
    for line in panels.chunks(COLUMNS) {
        for (column, panel) in line.iter().enumerate() {
            draw_panel(&mut body, panel, column as f64 * PANEL + 12.0, y);
        }
        y += line.iter().map(|panel| height(panel)).fold(0.0, f64::max) + GAP;
    }
    frame(title, rows, &body, y)
}

fn of<'a>(bench: &str, rows: &'a [Row]) -> Vec<&'a Row> {
    rows.iter().filter(|row| row.bench == bench && row.subject != CONDITIONS).collect()
}

fn height(panel: &[&Row]) -> f64 {
    HEAD + panel.len() as f64 * LINE
}

fn frame(title: &str, rows: &[Row], body: &str, height: f64) -> String {
    let width = COLUMNS as f64 * PANEL + 12.0;
    let conditions = rows.iter().find(|row| row.subject == CONDITIONS).map_or("", |row| &row.note);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"16\" font-weight=\"bold\">{}</text>\n\
         <text x=\"12\" y=\"40\" font-size=\"9\" fill=\"#555555\">{}</text>\n{body}</svg>\n",
        escape(title),
        escape(conditions)
    )
}

fn draw_panel(out: &mut String, panel: &[&Row], x: f64, y: f64) {
    let values = || panel.iter().filter_map(|row| row.p50).filter(|value| *value > 0.0);
    let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
    let log = most / least >= LOG_FROM;
    let unit = panel.iter().map(|row| row.unit.as_str()).find(|unit| !unit.is_empty()).unwrap_or_default();
    let scale = if log { ", log scale" } else { "" };
    let (bench, at) = (escape(&panel[0].bench), y + 12.0);
    _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{at}\" font-weight=\"bold\">{bench} \
         <tspan font-weight=\"normal\" fill=\"#555555\">[{}{scale}]</tspan></text>",
        escape(unit)
    );
    for (index, row) in panel.iter().enumerate() {
        let length = row.p50.map_or(0.0, |value| BARS * share(value, least, most, log));
        draw_bar(out, row, length, x, y + HEAD + index as f64 * LINE);
    }
}

/// How long the bar of `value` is. On a logarithmic scale the shortest is a tenth of the longest.
fn share(value: f64, least: f64, most: f64, log: bool) -> f64 {
    match (value > 0.0, log) {
        (false, _) => 0.0,
        (true, false) => value / most,
        (true, true) => 0.1 + 0.9 * (value / least).ln() / (most / least).ln(),
    }
}

fn draw_bar(out: &mut String, row: &Row, length: f64, x: f64, y: f64) {
    let (fill, weight) = match row.subject.as_str() {
        OURS => ("#1f6f8b", "bold"),
        floor if floor.starts_with("floor") => ("#bbbbbb", "normal"),
        _ => ("#d98c4a", "normal"),
    };
    let value = match row.p50 {
        None => row.note.clone(),
        value => figure(value),
    };
    let (names, bars, values) = (x + NAMES - 6.0, x + NAMES, x + NAMES + length + 4.0);
    _ = writeln!(
        out,
        "<text x=\"{names}\" y=\"{y}\" text-anchor=\"end\" font-weight=\"{weight}\">{}</text>\
         <rect x=\"{bars}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"10\" fill=\"{fill}\"/>\
         <text x=\"{values:.1}\" y=\"{y}\" font-weight=\"{weight}\">{}</text>",
        escape(&row.subject),
        y - 9.0,
        escape(&value)
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
