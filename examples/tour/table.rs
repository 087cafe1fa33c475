//! The table at the end.

use crate::measure::duration;
use crate::memory::mebibytes;
use crate::screen::Screen;
use crate::section::{Numbers, Outcome, Section};

/// One row for each section; what does not work here says why below.
pub(crate) fn print(screen: &Screen, sections: &[Section]) {
    screen.line("");
    screen.line(&row("", ["cold p50", "pooled p50", "ratio", "memory each"]));
    for section in sections {
        let cells = match &section.outcome {
            Outcome::Works(numbers) => cells(numbers),
            Outcome::Missing { .. } => ["not here".into(), "-".into(), "-".into(), "-".into()],
            Outcome::Failed(_) => ["failed".into(), "-".into(), "-".into(), "-".into()],
        };
        screen.line(&row(&section.name, cells.each_ref().map(String::as_str)));
    }
    screen.line("p50: the median, from asking to the answer; memory: PSS, of containers by cgroup");
    for section in sections {
        explain(screen, section);
    }
}

fn cells(numbers: &Numbers) -> [String; 4] {
    let (cold, pooled) = (numbers.cold.p50(), numbers.pooled.p50());
    let ratio = cold.as_secs_f64() / pooled.as_secs_f64();
    let decimals = if ratio < 10.0 { 1 } else { 0 };
    [duration(cold), duration(pooled), format!("{ratio:.decimals$}x"), mebibytes(numbers.memory)]
}

fn explain(screen: &Screen, section: &Section) {
    match &section.outcome {
        Outcome::Works(_) => {}
        Outcome::Missing { why, remedy } => {
            screen.line("");
            screen.paragraph(0, &format!("{}: not on this machine. {why}", section.name));
            screen.paragraph(2, remedy);
        }
        Outcome::Failed(error) => {
            screen.line("");
            screen.paragraph(0, &format!("{} failed: {}", section.name, chain(&**error)));
        }
    }
}

/// Eighty columns.
fn row(name: &str, [cold, pooled, ratio, memory]: [&str; 4]) -> String {
    format!("{name:<34}{cold:>11}{pooled:>12}{ratio:>9}{memory:>14}")
}

/// An error with all its sources.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::WIDTH;

    #[test]
    fn a_row_is_as_wide_as_the_screen() {
        assert_eq!(row("name", ["18.2 ms", "94.1 us", "193x", "6.1 MiB"]).len(), WIDTH);
    }
}
