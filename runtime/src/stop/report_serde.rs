//! The report as a program reads it.

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::report::Report;
use crate::log::millis;

/// `cause`, `elapsed_ms`, `code` (the exit code), `requests`, `connections`, `tasks` (how many were
/// drained), `last`, `cut`, `failures`, `forced`.
impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let failures: Vec<_> = self.failures.iter().map(ToString::to_string).collect();
        let mut report = serializer.serialize_struct("Report", 10)?;
        report.serialize_field("cause", &self.cause.to_string())?;
        report.serialize_field("elapsed_ms", &millis(self.elapsed))?;
        report.serialize_field("code", &self.code())?;
        report.serialize_field("requests", &self.requests())?;
        report.serialize_field("connections", &self.connections())?;
        report.serialize_field("tasks", &self.tasks())?;
        report.serialize_field("last", &self.last)?;
        report.serialize_field("cut", &self.cut)?;
        report.serialize_field("failures", &failures)?;
        report.serialize_field("forced", &self.forced.map(|signal| signal.to_string()))?;
        report.end()
    }
}
