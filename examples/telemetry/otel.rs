//! A pool's work in OpenTelemetry: spans of users and of the manager, with the pool's events in them, and
//! gauges from its snapshots.

use std::error::Error;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use poolyard::{Manager, Observer, Pool};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// What has to be shut down at the end, so that nothing is lost.
#[derive(Debug)]
pub struct Telemetry {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
}

/// Sends spans and metrics to the collector at `endpoint` (`http://127.0.0.1:4318`), in OTLP over HTTP.
///
/// # Errors
///
/// The endpoint is no address, or a subscriber of `tracing` is installed already.
pub fn install(endpoint: &str) -> Result<Telemetry, Box<dyn Error + Send + Sync>> {
    let resource = Resource::builder().with_service_name("poolyard-example").build();
    let spans = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpJson)
        .with_endpoint(format!("{endpoint}/v1/traces"))
        .build()?;
    let traces =
        SdkTracerProvider::builder().with_batch_exporter(spans).with_resource(resource.clone()).build();

    let numbers = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpJson)
        .with_endpoint(format!("{endpoint}/v1/metrics"))
        .build()?;
    let reader = PeriodicReader::builder(numbers).with_interval(Duration::from_secs(1)).build();
    let metrics = SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();

    subscribe(&traces)?;
    Ok(Telemetry { traces, metrics })
}

/// Spans become those of OpenTelemetry, and events within them their events. What the exporter itself
/// traces is left out: it would be exported, and traced again.
fn subscribe(traces: &SdkTracerProvider) -> Result<(), TryInitError> {
    let ours = tracing_subscriber::filter::filter_fn(|meta| meta.target().starts_with("poolyard"));
    let layer = tracing_opentelemetry::layer().with_tracer(traces.tracer("poolyard"));
    use tracing_subscriber::Layer as _;
    tracing_subscriber::registry().with(layer.with_filter(ours)).try_init()
}

impl Telemetry {
    /// Shows the pool's counts as gauges, read from a snapshot whenever they are sent.
    pub fn watch<M: Manager, O: Observer>(&self, pool: &Pool<M, O>) {
        let meter = self.metrics.meter("poolyard");
        let (name, weak) = (pool.config().name, pool.downgrade());
        let states = meter.u64_observable_gauge("poolyard.resources");
        states
            .with_callback(move |gauge| {
                let Some(pool) = weak.upgrade() else { return };
                let counts = pool.snapshot().counts;
                let states = [
                    ("idle", counts.idle),
                    ("leased", counts.leased),
                    ("creating", counts.creating),
                    ("recycling", counts.recycling),
                ];
                for (state, count) in states {
                    let labels = [KeyValue::new("pool", name.clone()), KeyValue::new("state", state)];
                    gauge.observe(count as u64, &labels);
                }
            })
            .build();
        let (name, weak) = (pool.config().name, pool.downgrade());
        let waiters = meter.u64_observable_gauge("poolyard.waiters");
        waiters
            .with_callback(move |gauge| {
                let Some(pool) = weak.upgrade() else { return };
                let label = [KeyValue::new("pool", name.clone())];
                gauge.observe(pool.snapshot().counts.waiters as u64, &label);
            })
            .build();
    }

    /// Sends what is left. Blocks until it is sent or given up.
    ///
    /// # Errors
    ///
    /// The collector could not be reached.
    pub fn shutdown(self) -> Result<(), OTelSdkError> {
        let (traces, metrics) = (self.traces.shutdown(), self.metrics.shutdown());
        traces.and(metrics)
    }
}

/// A manager whose creations and recycles are spans: they run in the pool's driver, outside every user's
/// span, so they would not be seen without.
#[derive(Debug)]
pub struct Traced<M>(pub M);

mod traced {
    use std::borrow::Cow;
    use std::fmt::Debug;

    use poolyard::{Context, Manager};
    use tracing::Instrument;

    use super::Traced;

    impl<M: Manager<Key: Debug>> Manager for Traced<M> {
        type Key = M::Key;
        type Resource = M::Resource;
        type Error = M::Error;

        async fn create(&self, key: &M::Key, cx: &Context) -> Result<M::Resource, M::Error> {
            let span = tracing::info_span!(target: "poolyard_example", "create", ?key, id = %cx.id());
            self.0.create(key, cx).instrument(span).await
        }

        async fn recycle(&self, key: &M::Key, r: &mut M::Resource, cx: &Context) -> Result<(), M::Error> {
            let span = tracing::info_span!(target: "poolyard_example", "recycle", ?key, id = %cx.id());
            self.0.recycle(key, r, cx).instrument(span).await
        }

        async fn health_check(
            &self,
            key: &M::Key,
            r: &mut M::Resource,
            cx: &Context,
        ) -> Result<(), M::Error> {
            self.0.health_check(key, r, cx).await
        }

        fn describe(&self, resource: &M::Resource) -> Cow<'static, str> {
            self.0.describe(resource)
        }
    }
}
