//! The families of one scrape, on their way to the encoder.
//!
//! They go past the registry's collectors on purpose: `Registry::gather` sorts and merges every series again, which at a hundred
//! instances would double the cost of a scrape. What is added here is in order already.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Counter or gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Families in the order in which they are added.
#[derive(Default)]
pub(super) struct Page {
    families: Vec<MetricFamily>,
}

/// One family that is being filled.
pub(super) struct Family<'a> {
    page: &'a mut Page,
    name: String,
    help: &'static str,
    kind: Kind,
    series: Vec<Metric>,
}

impl Page {
    /// Begins a family; it is on the page once it is dropped, unless it is empty.
    pub(super) fn family(&mut self, name: impl Into<String>, help: &'static str, kind: Kind) -> Family<'_> {
        Family { page: self, name: name.into(), help, kind, series: Vec::new() }
    }

    /// A gauge without labels, if there is a value.
    pub(super) fn gauge(&mut self, name: &str, help: &'static str, value: Option<f64>) {
        self.family(name, help, Kind::Gauge).add_some(&[], value);
    }

    /// For the encoder.
    pub(super) fn into_families(self) -> Vec<MetricFamily> {
        self.families
    }
}

impl Family<'_> {
    /// Adds one series.
    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let pair = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut series = Metric::from_label(labels.iter().map(pair).collect());
        match self.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                series.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                series.set_gauge(gauge);
            }
        }
        self.series.push(series);
    }

    /// Adds one series if there is a value: an older kernel's missing file is a missing series, never a zero.
    pub(super) fn add_some(&mut self, labels: &[(&str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            self.add(labels, value);
        }
    }
}

impl Drop for Family<'_> {
    fn drop(&mut self) {
        if self.series.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(std::mem::take(&mut self.name));
        family.set_help(self.help.to_owned());
        family.set_field_type(match self.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
        });
        family.set_metric(std::mem::take(&mut self.series));
        self.page.families.push(family);
    }
}
