//! A layer for `tracing` that writes what callers did with a pool.

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Writes arrivals, holds, waits and outcomes of the callers of one pool. Clones write to one file.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Mutex<Recording>>);

struct Recording {
    start: Instant,
    out: BufWriter<File>,
    /// How long those waited who get their lease next, by resource.
    waits: HashMap<String, Duration>,
    /// Those with a lease, by resource.
    holding: HashMap<String, Caller>,
}

#[derive(Clone, Copy)]
struct Caller {
    at: Duration,
    key: u64,
    waited: Option<Duration>,
}

impl Recorder {
    /// Starts a recording.
    pub(crate) fn create(file: &Path) -> io::Result<Recorder> {
        let mut out = BufWriter::new(File::create(file)?);
        writeln!(out, "# arrive,<at>,<key>,<hold>,<waited>,<outcome>; times in microseconds")?;
        let (waits, holding) = Default::default();
        Ok(Recorder(Arc::new(Mutex::new(Recording { start: Instant::now(), out, waits, holding }))))
    }

    /// Ends the recording: those who still have a lease have held it until now.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let mut recording = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, caller) in std::mem::take(&mut recording.holding) {
            recording.served(caller)?;
        }
        let length = recording.start.elapsed().as_micros();
        writeln!(recording.out, "length,{length}")?;
        recording.out.flush()
    }
}

impl Recording {
    fn happened(&mut self, fields: Fields) -> io::Result<()> {
        let now = self.start.elapsed();
        let since = |span: Duration| now.saturating_sub(span);
        match fields.message.as_str() {
            "poolyard: served" => _ = self.waits.insert(fields.id, fields.span),
            "poolyard: acquired" => {
                let waited = self.waits.remove(&fields.id);
                let at = since(waited.unwrap_or_default());
                self.holding.insert(fields.id, Caller { at, key: fields.key, waited });
            }
            "poolyard: returned" => {
                if let Some(caller) = self.holding.remove(&fields.id) {
                    self.served(caller)?;
                }
            }
            "poolyard: not served" => self.left(since(fields.span), &fields, "failed")?,
            "poolyard: cancelled" => self.left(since(fields.span), &fields, "cancelled")?,
            "poolyard: created" => writeln!(self.out, "create,{}", fields.span.as_micros())?,
            "poolyard: recycled" => writeln!(self.out, "recycle,{}", fields.span.as_micros())?,
            _ => {}
        }
        Ok(())
    }

    fn served(&mut self, caller: Caller) -> io::Result<()> {
        let Caller { at, key, waited } = caller;
        let waiting = waited.unwrap_or_default();
        let hold = self.start.elapsed().saturating_sub(at + waiting).as_micros();
        let outcome = if waited.is_some() { "waited" } else { "warm" };
        writeln!(self.out, "arrive,{},{key},{hold},{},{outcome}", at.as_micros(), waiting.as_micros())
    }

    /// A caller went away without a lease.
    fn left(&mut self, at: Duration, fields: &Fields, outcome: &str) -> io::Result<()> {
        let (key, waited) = (fields.key, fields.span.as_micros());
        writeln!(self.out, "arrive,{},{key},0,{waited},{outcome}", at.as_micros())
    }
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !event.metadata().target().starts_with("poolyard_core") || *event.metadata().level() < Level::DEBUG
        {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner).happened(fields);
        if let Err(error) = written {
            eprintln!("the recording has a gap: {error}");
        }
    }
}

/// What an event carries, as far as a recording needs it.
#[derive(Default)]
struct Fields {
    message: String,
    id: String,
    key: u64,
    /// How long a call took, or a wait.
    span: Duration,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "key" {
            self.key = value;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            "id" => self.id = text,
            "took" | "waited" => self.span = span(&text).unwrap_or_default(),
            _ => {}
        }
    }
}

/// Reads a duration in its `Debug` form, such as `1.5ms`.
fn span(text: &str) -> Option<Duration> {
    let units = [("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let (number, unit) =
        units.into_iter().find_map(|(unit, worth)| Some((text.strip_suffix(unit)?, worth)))?;
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

#[cfg(test)]
mod tests {
    use poolyard::{Pool, from_fn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for nanos in [7, 1_500, 2_000_000, 33_250_000, 4_000_000_000] {
            let written = Duration::from_nanos(nanos);
            let read = span(&format!("{written:?}")).unwrap();
            assert!(read.abs_diff(written) < Duration::from_nanos(2), "{written:?} was read as {read:?}");
        }
        assert_eq!(span("true"), None);
    }

    #[tokio::test]
    async fn a_recording_tells_arrivals_holds_and_outcomes() {
        let file = std::env::temp_dir().join(format!("poolyard-recorder-{}.csv", std::process::id()));
        let recorder = Recorder::create(&file).unwrap();
        let subscriber = tracing_subscriber::registry().with(recorder.clone());
        let guard = tracing::subscriber::set_default(subscriber);
        let pool =
            Pool::builder(from_fn(|_: &u8| async { Ok::<_, io::Error>(()) })).max_total(1).build().unwrap();
        drop(pool.acquire(&1).await.unwrap());
        let lease = pool.acquire(&1).await.unwrap();
        assert!(goes_away(pool.acquire(&2)).await, "the only resource is taken");
        drop(lease);
        drop(guard);
        recorder.finish().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let outcomes: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("arrive"))
            .filter_map(|line| line.rsplit(',').next())
            .collect();
        assert_eq!(outcomes, ["waited", "cancelled", "warm"]);
        assert!(text.lines().any(|line| line.starts_with("create,")) && text.contains("\nlength,"), "{text}");
    }

    /// A caller that asks and goes away; whether it had to wait.
    async fn goes_away<T>(future: impl Future<Output = T>) -> bool {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }
}
