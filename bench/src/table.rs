//! Samples, and the table that they end in.

use std::time::{Duration, Instant};

/// A line of the table.
pub struct Row {
    pub what: &'static str,
    pub figure: String,
    pub baseline: String,
    pub ratio: String,
    pub target: &'static str,
    /// Nothing, where nothing is to be reached.
    pub met: Option<bool>,
}

pub fn head() {
    println!(
        "{:<54} {:>27} {:>35} {:>8}  {:<28}",
        "what", "figure: median (least)", "baseline: median", "ratio", "to reach"
    );
}

impl Row {
    pub fn print(&self) {
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        println!(
            "{:<54} {:>27} {:>35} {:>8}  {:<28} {met}",
            self.what, self.figure, self.baseline, self.ratio, self.target
        );
    }

    pub fn skipped(what: &'static str, why: &str) -> Vec<Row> {
        vec![Row {
            what,
            figure: "not measured".into(),
            baseline: why.into(),
            ratio: String::new(),
            target: "",
            met: None,
        }]
    }
}

/// Times of the same thing, in seconds.
#[derive(Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let made = work();
        self.push(start.elapsed());
        made
    }

    pub fn push(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64());
    }

    /// A sample that is one of `count` equal parts.
    pub fn push_part(&mut self, time: Duration, count: u32) {
        self.0.push(time.as_secs_f64() / f64::from(count));
    }

    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn most(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// `median (least)`, in a unit that fits.
    pub fn text(&self) -> String {
        format!("{} ({})", duration(self.median()), duration(self.least()))
    }

    /// The same as a rate.
    pub fn rate_text(&self) -> String {
        format!("{}/s ({}/s)", count(1.0 / self.median()), count(1.0 / self.least()))
    }
}

pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 2e-6 => format!("{:.0} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

pub fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn ratio(value: f64) -> String {
    format!("{value:.2} x")
}
