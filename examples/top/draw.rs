//! From pictures to lines of at most 80 columns.

use std::time::Duration;

use poolyard_examples::live::{Picture, ResourcePicture, Times};

/// How many columns are used at most.
pub(crate) const WIDTH: usize = 80;
const BAR: usize = 40;
const KEYS: usize = 6;
/// States that are named even when nothing is in them.
const ALWAYS: [&str; 4] = ["leased", "idle", "creating", "recycling"];

/// Draws `now`; rates are those since the picture `last`, which is `age` old.
pub(crate) fn picture(now: &Picture, last: Option<&Picture>, age: Duration) -> Vec<String> {
    let mut lines = vec![format!("pool {}   process {}", now.pool, now.pid)];
    lines.extend(occupation(now));
    lines.extend(traffic(now, last, age));
    lines.extend(latencies(now));
    lines.extend(ended(now));
    lines.push(String::new());
    lines.extend(keys(now));
    lines.push(String::new());
    lines.extend(resources(now));
    lines.iter().map(|line| cut(line)).collect()
}

fn cut(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(WIDTH)
        .collect::<String>()
        .trim_end()
        .into()
}

fn count(now: &Picture, state: &str) -> usize {
    now.states.iter().find(|(name, _)| name == state).map_or(0, |(_, count)| *count)
}

fn occupation(now: &Picture) -> Vec<String> {
    let live: usize = now.states.iter().filter(|(state, _)| state != "abandoned").map(|(_, n)| n).sum();
    let of = |n: usize| n * BAR / now.max_total.max(live).max(1);
    let (leased, idle) = (of(count(now, "leased")), of(count(now, "idle")));
    let other = of(live).saturating_sub(leased + idle);
    let bar = format!("{}{}{}", "#".repeat(leased), "+".repeat(other), "-".repeat(idle));
    let shown = now.states.iter().filter(|(state, n)| *n > 0 || ALWAYS.contains(&state.as_str()));
    let states: Vec<_> = shown.map(|(state, n)| format!("{n} {state}")).collect();
    vec![
        format!("resources  [{bar:BAR$}] {live} of {}", limit(now.max_total)),
        format!("           {}", states.join(", ")),
        format!("waiters    {}", now.waiters),
    ]
}

fn limit(limit: usize) -> String {
    if limit == poolyard::UNLIMITED { "unlimited".into() } else { limit.to_string() }
}

fn traffic(now: &Picture, last: Option<&Picture>, age: Duration) -> Vec<String> {
    let leases = |p: &Picture| p.acquired_ready + p.acquired_waited;
    let recent = last.map(|last| {
        let (all, ready) = (
            leases(now).saturating_sub(leases(last)),
            now.acquired_ready.saturating_sub(last.acquired_ready),
        );
        let rate = all as f64 / age.as_secs_f64().max(0.001);
        format!("{rate:.0}/s now, {} of them at once", percent(ready, all))
    });
    vec![
        format!(
            "leases     {}, {} at once; {}",
            leases(now),
            percent(now.acquired_ready, leases(now)),
            recent.unwrap_or_else(|| "...".into())
        ),
        format!(
            "callers    {} timed out, {} refused, {} got an error, {} went away",
            now.timed_out, now.refused, now.failed, now.cancelled
        ),
        format!("creations  {}, {} failed", now.created, now.create_failures),
    ]
}

fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".into(),
        _ => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

fn latencies(now: &Picture) -> Vec<String> {
    let names = ["create", "recycle", "check", "destroy"];
    let seen = names.iter().zip(&now.latencies).filter(|(_, times)| times.calls > 0);
    let head = format!("{:10} {:>9} {:>9}   of the last", "latency", "p50", "p99");
    std::iter::once(head).chain(seen.map(|(name, times)| latency(name, times))).collect()
}

fn latency(name: &str, times: &Times) -> String {
    format!("{name:10} {:>9} {:>9}   {}", span(times.p50), span(times.p99), times.calls)
}

/// Microseconds for people: three digits or so, and a unit.
fn span(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => format!("{:.1} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..60_000_000 => format!("{:.1} s", micros as f64 / 1e6),
        60_000_000..3_600_000_000 => format!("{} min", micros / 60_000_000),
        _ => format!("{} h", micros / 3_600_000_000),
    }
}

fn ended(now: &Picture) -> Vec<String> {
    let reasons: Vec<_> = now.ended.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    let mut lines = vec!["ended     ".to_owned()];
    for reason in reasons {
        let last = lines.last_mut().expect("there is one");
        match last.len() + 2 + reason.len() > WIDTH {
            true => lines.push(format!("           {reason}")),
            false => {
                last.push_str(if last.trim_end().len() > 10 || last.starts_with(' ') { ", " } else { " " });
                last.push_str(&reason);
            }
        }
    }
    lines
}

fn keys(now: &Picture) -> Vec<String> {
    let head = format!("{:28} {:>7} {:>6} {:>6} {:>8}", "key", "leased", "idle", "live", "waiters");
    let rows = now.keys.iter().take(KEYS).map(|key| {
        let name: String = key.key.chars().take(28).collect();
        format!("{name:28} {:>7} {:>6} {:>6} {:>8}", key.leased, key.idle, key.live, key.waiters)
    });
    let more = now.keys.len().saturating_sub(KEYS);
    let rest = (more > 0).then(|| format!("... and {more} more"));
    std::iter::once(head).chain(rows).chain(rest).collect()
}

fn resources(now: &Picture) -> Vec<String> {
    let head =
        format!("{:8} {:16} {:10} {:>8} {:>8} {:>6}  {}", "id", "key", "state", "for", "age", "uses", "what");
    std::iter::once(head).chain(now.resources.iter().map(resource)).collect()
}

fn resource(resource: &ResourcePicture) -> String {
    let key: String = resource.key.chars().take(16).collect();
    format!(
        "{:8} {key:16} {:10} {:>8} {:>8} {:>6}  {}",
        resource.id,
        resource.state,
        span(resource.since),
        span(resource.age),
        resource.uses,
        resource.description
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use poolyard_examples::live::KeyPicture;

    fn busy() -> Picture {
        let long = "x".repeat(200);
        let key = KeyPicture { key: long.clone(), leased: 7, ..KeyPicture::default() };
        let resource = ResourcePicture {
            key: long.clone(),
            description: long + "\x1b[2J",
            ..ResourcePicture::default()
        };
        Picture {
            pool: "busy".into(),
            max_total: 10,
            states: vec![("leased".into(), 7), ("idle".into(), 2), ("abandoned".into(), 90)],
            acquired_ready: 75,
            acquired_waited: 25,
            ended: poolyard::Reason::ALL.iter().map(|reason| (reason.to_string(), 1_000_000)).collect(),
            keys: vec![key; 20],
            resources: vec![resource; 3],
            ..Picture::default()
        }
    }

    #[test]
    fn no_line_is_wider_than_the_screen_or_holds_a_control_character() {
        for line in picture(&busy(), None, Duration::from_secs(1)) {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn abandoned_resources_are_named_and_not_counted_as_live() {
        let lines = picture(&busy(), None, Duration::from_secs(1));
        assert!(lines.iter().any(|line| line.ends_with("9 of 10")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("90 abandoned")));
    }

    #[test]
    fn the_rate_is_that_since_the_last_picture() {
        let (before, mut now) = (busy(), busy());
        (now.acquired_ready, now.acquired_waited) = (85, 35);
        let lines = traffic(&now, Some(&before), Duration::from_secs(2));
        assert_eq!(lines[0], "leases     120, 70.8 % at once; 10/s now, 50.0 % of them at once");
    }

    #[test]
    fn every_reason_is_shown_in_lines_that_fit() {
        let lines = ended(&busy()).join("\n");
        assert!(poolyard::Reason::ALL.iter().all(|reason| lines.contains(reason.as_str())), "{lines}");
    }
}
