//! The classic text format: families of samples, each with HELP and TYPE.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::{Display, Write as _};

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Gauge,
    Counter,
}

/// A text in the making; samples belong to the family begun last.
#[derive(Debug, Default)]
pub struct Text {
    text: String,
    family: &'static str,
    /// HELP and TYPE of the family, until it has a sample.
    head: String,
}

impl Text {
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        self.family = name;
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&std::mem::take(&mut self.head));
        self.text.push_str(self.family);
        for (index, (name, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{name}=\"{}\"", escaped(value));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }

    pub fn finish(self) -> String {
        self.text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
