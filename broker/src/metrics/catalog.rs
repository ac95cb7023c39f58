//! Makes metrics, and remembers what each is for, so that the reference page cannot miss one.

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// What a metric's numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Grows until the broker restarts.
    Counter,
    /// A state that goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

impl Kind {
    /// The name of the kind in Prometheus.
    #[cfg(test)]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What is to be known of a metric.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the reference page is made by a test")
)]
pub(crate) struct Entry {
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    pub(crate) labels: &'static [&'static str],
}

/// Metrics that are shown together.
///
/// Making one panics where its name is taken or not lawful. All are made when a broker starts, so that every test of a
/// broker sees it.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    registry: Registry,
    section: &'static str,
    entries: Vec<Entry>,
}

/// Why making and registering a metric succeeds.
const LAWFUL: &str = "names are constants, lawful and used once";

impl Catalog {
    /// What is made from here on belongs to this section of the reference page.
    pub(super) fn section(&mut self, title: &'static str) {
        self.section = title;
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> IntCounter {
        let counter = IntCounter::new(name, help).expect(LAWFUL);
        self.add(Kind::Counter, name, help, &[], counter)
    }

    /// A counter of fractions.
    pub(super) fn real_counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let counter = Counter::new(name, help).expect(LAWFUL);
        self.add(Kind::Counter, name, help, &[], counter)
    }

    pub(super) fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> IntCounterVec {
        let counters = IntCounterVec::new(Opts::new(name, help), labels).expect(LAWFUL);
        self.add(Kind::Counter, name, help, labels, counters)
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> IntGauge {
        let gauge = IntGauge::new(name, help).expect(LAWFUL);
        self.add(Kind::Gauge, name, help, &[], gauge)
    }

    /// A gauge of fractions.
    pub(super) fn real_gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        let gauge = Gauge::new(name, help).expect(LAWFUL);
        self.add(Kind::Gauge, name, help, &[], gauge)
    }

    pub(super) fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> IntGaugeVec {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect(LAWFUL);
        self.add(Kind::Gauge, name, help, labels, gauges)
    }

    /// Gauges of fractions.
    pub(super) fn real_gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> GaugeVec {
        let gauges = GaugeVec::new(Opts::new(name, help), labels).expect(LAWFUL);
        self.add(Kind::Gauge, name, help, labels, gauges)
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        buckets: &[f64],
    ) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histogram = Histogram::with_opts(options).expect(LAWFUL);
        self.add(Kind::Histogram, name, help, &[], histogram)
    }

    pub(super) fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        buckets: &[f64],
    ) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histograms = HistogramVec::new(options, labels).expect(LAWFUL);
        self.add(Kind::Histogram, name, help, labels, histograms)
    }

    fn add<C: Collector + Clone + 'static>(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        collector: C,
    ) -> C {
        self.registry
            .register(Box::new(collector.clone()))
            .expect(LAWFUL);
        self.entries.push(Entry {
            section: self.section,
            name,
            kind,
            help,
            labels,
        });
        collector
    }

    /// All that was made, in order.
    #[cfg(test)]
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The page that Prometheus reads, in its text format 0.0.4.
    pub(super) fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("numbers and names are written to memory")
    }
}
