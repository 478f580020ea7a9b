//! The figures of a run, for dashboards: what the page `/metrics` of the probes and the recorder of
//! the crate `metrics` get.

use std::sync::atomic::Ordering;

use super::{phase::Phase, shared::Shared};
use crate::work::InFlight;

/// Whether a value may become smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FigureKind {
    Gauge,
    Counter,
}

/// One of the figures.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: FigureKind,
    /// A value without a label, or one for each value of the label.
    pub(crate) label: Option<&'static str>,
    pub(crate) values: Vec<(&'static str, f64)>,
}

impl Figure {
    fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, kind: FigureKind::Gauge, label: None, values: vec![("", value)] }
    }

    fn by(mut self, label: &'static str, values: Vec<(&'static str, f64)>) -> Self {
        (self.label, self.values) = (Some(label), values);
        self
    }

    fn counted(mut self) -> Self {
        self.kind = FigureKind::Counter;
        self
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of work")]
fn float(count: usize) -> f64 {
    count as f64
}

impl Shared {
    /// Returns the current figures.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let (counts, phase, last) = (self.work.counts(), self.phase.now(), &self.final_figures);
        let drain_seconds = if last.is_final() {
            float(last.drained_in.load(Ordering::Relaxed)) / 1e6
        } else {
            self.drain_started.get().map_or(0.0, |started| started.elapsed().as_secs_f64())
        };
        let phases = Phase::NAMES.iter().map(|&name| (name, float((name == phase.name()).into())));
        let cut = last.cut.iter().map(|count| float(count.load(Ordering::Relaxed)));
        vec![
            Figure::gauge("graceful_in_flight", "Work that a stop would wait for.", 0.0).by(
                "kind",
                vec![("request", float(counts.requests())), ("task", float(counts.tasks()))],
            ),
            Figure::gauge(
                "graceful_connections",
                "Open connections, idle ones included.",
                float(counts.connections()),
            ),
            Figure::gauge("graceful_phase", "1 for the phase that the process is in.", 0.0)
                .by("phase", phases.collect()),
            Figure::gauge(
                "graceful_drain_seconds",
                "How long the drain has taken so far, or took.",
                drain_seconds,
            ),
            Figure::gauge("graceful_cut_total", "Work that the limit has cut off.", 0.0)
                .by("kind", InFlight::KINDS.into_iter().zip(cut).collect())
                .counted(),
            Figure::gauge(
                "graceful_handed_over_total",
                "Connections that have gone to the next process.",
                float(self.work.moved()),
            )
            .counted(),
        ]
    }

    /// Hands the figures to the recorder of the crate `metrics`.
    #[cfg(feature = "metrics")]
    pub(super) fn publish(&self) {
        for Figure { name, kind, label, values, .. } in self.figures() {
            for (value_of_label, value) in values {
                let labels = label.map(|label| metrics::Label::new(label, value_of_label));
                let labels: Vec<_> = labels.into_iter().collect();
                match kind {
                    FigureKind::Gauge => metrics::gauge!(name, labels).set(value),
                    #[allow(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "it was a count"
                    )]
                    FigureKind::Counter => metrics::counter!(name, labels).absolute(value as u64),
                }
            }
        }
    }
}

/// Hands the figures to the recorder at each change of the phase, and once a second: a recorder has
/// no way to ask.
#[cfg(feature = "metrics")]
pub(super) async fn publish_regularly(shared: &Shared) -> std::convert::Infallible {
    const EVERY: std::time::Duration = std::time::Duration::from_secs(1);
    for Figure { name, kind, help, .. } in shared.figures() {
        match kind {
            FigureKind::Gauge => metrics::describe_gauge!(name, help),
            FigureKind::Counter => metrics::describe_counter!(name, help),
        }
    }
    loop {
        // Created before the look, so that no change is missed.
        let changed = shared.phase.changed();
        let changed = changed.notified();
        shared.publish();
        crate::util::within(Some(EVERY), changed).await;
    }
}
