//! The pictures: how many callers found an idle resource against what it took, and a pool over time.

use std::fmt::Write;

/// The colours of lines, in turn.
const COLOURS: [&str; 5] = ["#1f6f8b", "#d98c4a", "#8a5fb0", "#5a9e5a", "#b0413e"];
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 78.0;
const GAP_X: f64 = 56.0;
const GAP_Y: f64 = 76.0;

/// One line: a name and its points. The first line of a panel is drawn thick.
#[derive(Clone, Debug)]
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// The points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// With a mark at each point, or as a curve.
    pub marked: bool,
}

/// An axis: what it shows and its range.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows.
    pub name: String,
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// How its numbers are written.
    pub label: fn(f64) -> String,
}

impl Axis {
    fn share(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    /// Five or so round numbers.
    fn ticks(&self) -> Vec<f64> {
        let rough = (self.to - self.from) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let first = (self.from / step).ceil() as i64;
        (first..).map(|n| n as f64 * step).take_while(|tick| *tick <= self.to + step * 1e-6).collect()
    }
}

/// One panel.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it says at its top.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// To the top.
    pub y: Axis,
    /// Its lines.
    pub lines: Vec<Line>,
    /// A dashed line across at this height.
    pub mark: Option<f64>,
}

/// Draws panels in rows of `columns`, with one legend for all.
pub fn draw(title: &str, remark: &str, columns: usize, panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(columns);
    let width = LEFT + columns as f64 * (WIDTH + GAP_X);
    let height = TOP + rows as f64 * (HEIGHT + GAP_Y);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"16\" font-weight=\"bold\">{}</text>\n\
         <text x=\"12\" y=\"38\" font-size=\"10\" fill=\"#555555\">{}</text>\n",
        escape(title),
        escape(remark)
    );
    legend(&mut out, panels);
    for (index, panel) in panels.iter().enumerate() {
        let (column, row) = (index % columns, index / columns);
        let x = LEFT + column as f64 * (WIDTH + GAP_X);
        draw_panel(&mut out, panel, x, TOP + row as f64 * (HEIGHT + GAP_Y));
    }
    out.push_str("</svg>\n");
    out
}

fn names(panels: &[Panel]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for line in panels.iter().flat_map(|panel| &panel.lines) {
        if !names.contains(&line.name.as_str()) {
            names.push(&line.name);
        }
    }
    names
}

fn legend(out: &mut String, panels: &[Panel]) {
    let mut x = 12.0;
    for (index, name) in names(panels).into_iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"46\" width=\"16\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"52\">{}</text>",
            x + 21.0,
            escape(name)
        );
        x += 40.0 + name.len() as f64 * 6.2;
    }
}

fn draw_panel(out: &mut String, panel: &Panel, x: f64, y: f64) {
    _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{}\" font-weight=\"bold\">{}</text>",
        y - 7.0,
        escape(&panel.title)
    );
    let at = |px: f64, py: f64| (x + panel.x.share(px) * WIDTH, y + HEIGHT - panel.y.share(py) * HEIGHT);
    axes(out, panel, x, y, at);
    if let Some(mark) = panel.mark {
        let height = at(0.0, mark).1;
        _ = writeln!(
            out,
            "<line x1=\"{x}\" x2=\"{}\" y1=\"{height:.1}\" y2=\"{height:.1}\" stroke=\"#888888\" \
             stroke-dasharray=\"5 3\"/>",
            x + WIDTH
        );
    }
    for (index, line) in panel.lines.iter().enumerate().rev() {
        draw_line(out, line, COLOURS[index % COLOURS.len()], if index == 0 { 2.5 } else { 1.5 }, at);
    }
}

fn axes(out: &mut String, panel: &Panel, x: f64, y: f64, at: impl Fn(f64, f64) -> (f64, f64)) {
    let bottom = y + HEIGHT;
    for tick in panel.x.ticks() {
        let tx = at(tick, panel.y.from).0;
        _ = writeln!(
            out,
            "<line x1=\"{tx:.1}\" x2=\"{tx:.1}\" y1=\"{y}\" y2=\"{bottom}\" stroke=\"#eeeeee\"/>\
             <text x=\"{tx:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 14.0,
            (panel.x.label)(tick)
        );
    }
    for tick in panel.y.ticks() {
        let ty = at(panel.x.from, tick).1;
        _ = writeln!(
            out,
            "<line x1=\"{x}\" x2=\"{}\" y1=\"{ty:.1}\" y2=\"{ty:.1}\" stroke=\"#eeeeee\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            x + WIDTH,
            x - 5.0,
            ty + 4.0,
            (panel.y.label)(tick)
        );
    }
    let (middle, below) = (x + WIDTH / 2.0, bottom + 29.0);
    let (side, centre) = (x - 48.0, y + HEIGHT / 2.0);
    _ = writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#999999\"/>\
         <text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\" fill=\"#555555\">{}</text>\
         <text x=\"{side}\" y=\"{centre}\" text-anchor=\"middle\" fill=\"#555555\" \
         transform=\"rotate(-90 {side} {centre})\">{}</text>",
        escape(&panel.x.name),
        escape(&panel.y.name)
    );
}

fn draw_line(out: &mut String, line: &Line, colour: &str, thick: f64, at: impl Fn(f64, f64) -> (f64, f64)) {
    let points: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| at(*x, *y)).collect();
    let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{thick}\"/>",
        path.join(" ")
    );
    for (x, y) in points.iter().filter(|_| line.marked) {
        _ = write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{thick}\" fill=\"{colour}\"/>");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
