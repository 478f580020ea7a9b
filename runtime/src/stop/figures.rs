//! The figures of a run, for dashboards: what the page `/metrics` of the probes and the recorder of
//! the crate `metrics` get.

use std::sync::atomic::{Ordering, fence};

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
    /// Returns the current figures, the phase last.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        // Values that change with the phase are never ahead of the phase beside them. The count of
        // what was cut comes a moment later, without the work that ends by itself in that moment.
        loop {
            let phase = self.phase.now();
            // Pairs with the release in `advance`: what was noted before this phase is seen.
            fence(Ordering::Acquire);
            let figures = self.figures_in(phase);
            if self.phase.now() == phase {
                return figures;
            }
        }
    }

    fn figures_in(&self, phase: Phase) -> Vec<Figure> {
        let (counts, last) = (self.work.counts(), &self.final_figures);
        let drain_seconds = if last.is_final() {
            float(last.drained_in.load(Ordering::Relaxed)) / 1e6
        } else {
            self.drain_started.get().map_or(0.0, |started| started.elapsed().as_secs_f64())
        };
        let phases = Phase::NAMES.iter().map(|&name| (name, float((name == phase.name()).into())));
        // Acquire: whoever sees what was cut sees the phase that cut it.
        let cut = last.cut.iter().map(|count| float(count.load(Ordering::Acquire)));
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
            Figure::gauge("graceful_phase", "1 for the phase that the process is in.", 0.0)
                .by("phase", phases.collect()),
        ]
    }

    /// Hands the figures to the recorder of the crate `metrics`.
    ///
    /// A recorder takes them one by one and may be read in between. So what changes to 0 comes
    /// first, which leaves a moment without a phase rather than one with two, and the phase comes
    /// last: the values beside it are no older than it.
    #[cfg(feature = "metrics")]
    pub(super) fn publish(&self) {
        for Figure { name, kind, label, mut values, .. } in self.figures() {
            values.sort_by(|(_, one), (_, other)| one.total_cmp(other));
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

#[cfg(all(test, feature = "metrics", not(graceful_loom)))]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder,
        SharedString, Unit,
    };

    use super::*;
    use crate::{
        log::Log,
        manager::Manager,
        stop::{Limits, Propagation},
    };

    /// What can be read, after each change.
    #[derive(Default)]
    struct Pages(Mutex<Vec<BTreeMap<String, f64>>>);

    struct Value(Arc<Pages>, String);

    impl Value {
        fn note(&self, value: f64) {
            let mut pages = self.0.0.lock().unwrap();
            let mut page = pages.last().cloned().unwrap_or_default();
            page.insert(self.1.clone(), value);
            pages.push(page);
        }
    }

    impl GaugeFn for Value {
        fn increment(&self, _: f64) {}
        fn decrement(&self, _: f64) {}
        fn set(&self, value: f64) {
            self.note(value);
        }
    }

    impl CounterFn for Value {
        fn increment(&self, _: u64) {}
        #[allow(clippy::cast_precision_loss, reason = "a count of one")]
        fn absolute(&self, value: u64) {
            self.note(value as f64);
        }
    }

    struct Recorded(Arc<Pages>);

    impl Recorded {
        fn value(&self, key: &Key) -> Arc<Value> {
            let label = key.labels().next().map_or("", metrics::Label::value);
            Arc::new(Value(self.0.clone(), format!("{}{label}", key.name())))
        }
    }

    impl Recorder for Recorded {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.value(key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.value(key))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    /// A scrape between two changes sees no phase before what belongs to it, and never two phases.
    #[test]
    fn a_recorder_that_is_read_in_between_shows_no_phase_too_early() {
        let events = tokio::sync::mpsc::unbounded_channel().0;
        let (log, manager) = (Log::closed(), Manager::nobody());
        let shared = Shared::new(Limits::NONE, Propagation::Futures, log, manager, events);
        let pages = Arc::new(Pages::default());
        metrics::with_local_recorder(&Recorded(pages.clone()), || {
            for phase in [Phase::Serving, Phase::Draining, Phase::Cut] {
                shared.phase.advance(phase);
                shared.final_figures.cut[0].store(phase as usize, Ordering::Release);
                shared.publish();
            }
        });
        let pages = pages.0.lock().unwrap();
        let mut seen = 0;
        for page in pages.iter() {
            let is = |phase: Phase| page.get(&format!("graceful_phase{}", phase.name()));
            let now = [Phase::Serving, Phase::Draining, Phase::Cut]
                .into_iter()
                .filter(|&phase| is(phase) == Some(&1.0))
                .collect::<Vec<_>>();
            assert!(now.len() <= 1, "{now:?}");
            if let [phase] = now[..] {
                let cut = page[&format!("graceful_cut_total{}", InFlight::KINDS[0])];
                assert!(cut >= f64::from(phase as u8), "{phase:?}: {cut}");
                assert!(page.contains_key("graceful_handed_over_total"), "{phase:?}");
                seen += 1;
            }
        }
        assert!(seen >= 3, "each phase is seen");
    }
}
