//! The chart: a panel of bars for each bench.

use std::fmt::Write;

use crate::row::{CONDITIONS, FLOOR, OURS, Row};
use crate::table::{benches, figure};

const COLUMNS: usize = 4;
const PANEL: f64 = 300.0;
const NAMES: f64 = 112.0;
const BARS: f64 = 130.0;
const LINE: f64 = 14.0;
const HEAD: f64 = 26.0;
const GAP: f64 = 18.0;
const TOP: f64 = 84.0;
const MARGIN: f64 = 12.0;

/// A bar that would be longer than so many of ours is cut off, so that the others can be compared.
const CUT: f64 = 8.0;
/// So many letters of the conditions stand in a line.
const LETTERS: usize = 190;
/// The end of a bench's name where ours has every option on.
const ALL_ON: &str = "/all_on";
/// What stands between two benches that are shown: it is in the table.
const LEFT_OUT: [&str; 3] =
    ["acquire_return/2_tasks", "acquire_return/64_tasks/size_1", "acquire_return/1_tasks/size_1/"];

/// Draws the rows, a panel for each bench; ours with every option on stands beside ours as shipped.
pub fn draw(title: &str, rows: &[Row]) -> String {
    let shown = |bench: &&str| !bench.ends_with(ALL_ON) && !is_left_out(bench);
    let panels: Vec<Vec<&Row>> =
        benches(rows).into_iter().filter(shown).map(|bench| of(bench, rows)).collect();
    let mut body = String::new();
    let mut y = TOP;
    for line in panels.chunks(COLUMNS) {
        for (column, panel) in line.iter().enumerate() {
            draw_panel(&mut body, panel, column as f64 * PANEL + MARGIN, y);
        }
        y += line.iter().map(|panel| height(panel)).fold(0.0, f64::max) + GAP;
    }
    frame(title, rows, &body, y)
}

fn is_left_out(bench: &str) -> bool {
    LEFT_OUT.iter().any(|name| match bench.strip_prefix(name) {
        Some(rest) => name.ends_with('/') || rest.is_empty() || rest.starts_with('/'),
        None => false,
    })
}

fn of<'a>(bench: &str, rows: &'a [Row]) -> Vec<&'a Row> {
    let belongs = |row: &&Row| row.bench.strip_suffix(ALL_ON).unwrap_or(&row.bench) == bench;
    let mut panel: Vec<&Row> = rows.iter().filter(belongs).filter(|row| row.subject != CONDITIONS).collect();
    panel.sort_by_key(|row| (row.subject != OURS, row.subject.starts_with(FLOOR)));
    panel
}

fn height(panel: &[&Row]) -> f64 {
    HEAD + panel.len() as f64 * LINE
}

fn frame(title: &str, rows: &[Row], body: &str, height: f64) -> String {
    let width = COLUMNS as f64 * PANEL + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"16\" font-weight=\"bold\">{}: medians; shorter is better, \
         except for the index of fairness</text>\n{}{body}</svg>\n",
        escape(title),
        conditions(rows)
    )
}

/// The machine and the rules, in as many lines as it takes.
fn conditions(rows: &[Row]) -> String {
    let note = rows.iter().find(|row| row.subject == CONDITIONS).map_or("", |row| &row.note);
    let mut lines = vec![String::new()];
    for word in note.split_whitespace() {
        if lines.last().is_some_and(|line| line.len() + word.len() > LETTERS) {
            lines.push(String::new());
        }
        let line = lines.last_mut().expect("there is always a line");
        _ = write!(line, "{word} ");
    }
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let y = 42.0 + 12.0 * index as f64;
        _ = writeln!(
            text,
            "<text x=\"{MARGIN}\" y=\"{y}\" font-size=\"9\" fill=\"#555555\">{}</text>",
            escape(line.trim_end())
        );
    }
    text
}

fn draw_panel(out: &mut String, panel: &[&Row], x: f64, y: f64) {
    let longest = scale(panel);
    let unit = panel.iter().map(|row| row.unit.as_str()).find(|unit| !unit.is_empty()).unwrap_or_default();
    let (bench, at) = (escape(&panel[0].bench), y + 12.0);
    _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{at}\" font-weight=\"bold\">{bench} \
         <tspan font-weight=\"normal\" fill=\"#555555\">[{}]</tspan></text>",
        escape(unit)
    );
    for (index, row) in panel.iter().enumerate() {
        draw_bar(out, row, longest, x, y + HEAD + index as f64 * LINE);
    }
}

/// The value of a bar of full length.
fn scale(panel: &[&Row]) -> f64 {
    let most = panel.iter().filter_map(|row| row.p50).fold(0.0, f64::max);
    let ours = panel[0].p50.filter(|ours| *ours > 0.0 && panel[0].subject == OURS);
    ours.map_or(most, |ours| most.min(ours * CUT))
}

fn draw_bar(out: &mut String, row: &Row, longest: f64, x: f64, y: f64) {
    let all_on = row.bench.ends_with(ALL_ON);
    let (fill, weight) = match row.subject.as_str() {
        OURS if all_on => ("#7fb3c4", "normal"),
        OURS => ("#1f6f8b", "bold"),
        floor if floor.starts_with(FLOOR) => ("#bbbbbb", "normal"),
        _ => ("#d98c4a", "normal"),
    };
    let name = if all_on { format!("{}, all on", row.subject) } else { row.subject.clone() };
    let share = row.p50.filter(|_| longest > 0.0).map_or(0.0, |value| value / longest);
    let (length, cut) = (BARS * share.min(1.0), if share > 1.0 { "\u{2026} " } else { "" });
    let value = match row.p50 {
        None => row.note.clone(),
        value => format!("{cut}{}", figure(value)),
    };
    let (names, bars, values) = (x + NAMES - 6.0, x + NAMES, x + NAMES + length + 4.0);
    _ = writeln!(
        out,
        "<text x=\"{names}\" y=\"{y}\" text-anchor=\"end\" font-weight=\"{weight}\">{}</text>\
         <rect x=\"{bars}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"10\" fill=\"{fill}\"/>\
         <text x=\"{values:.1}\" y=\"{y}\" font-weight=\"{weight}\">{}</text>",
        escape(&name),
        y - 9.0,
        escape(&value)
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
