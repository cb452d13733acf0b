//! How much of the machine one execution may use. Every limit has a default per level, a least and a greatest value.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::Level;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The limits of one execution. A limit of 0 allows nothing.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Guest time, in milliseconds.
    pub cpu_ms: u64,
    /// Time while running, in milliseconds; waiting on a promise does not count.
    pub wall_ms: u64,
    /// Linear memory of all its instances, in bytes.
    pub memory: u64,
    /// Table elements of all its instances.
    pub tables: u64,
    /// Bytes that one host call may copy in.
    pub arguments: u64,
    /// Resource handles alive at once.
    pub handles: u64,
    /// Text and data that it may put out, in bytes.
    pub output: u64,
    /// Promises pending at once.
    pub promises: u64,
    /// Its recorded steps, in bytes.
    pub journal: u64,
    /// How long it may wait in memory before it is parked, in milliseconds.
    pub park_after_ms: u64,
    /// Processor time that compiling the guest may take, in milliseconds; 0: by the size of its code.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub compile_cpu_ms: u64,
    /// Address space that compiling the guest may take, in bytes; 0: by the size of its code.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub compile_memory: u64,
}

fn is_zero(limit: &u64) -> bool {
    *limit == 0
}

impl Limits {
    /// The limits of a policy of this level that names none.
    pub const fn of(level: Level) -> Limits {
        let sandbox = Limits {
            cpu_ms: 1_000,
            wall_ms: 10_000,
            memory: 64 * MIB,
            tables: 100_000,
            arguments: 4 * MIB,
            handles: 1_000,
            output: MIB,
            promises: 100,
            journal: 16 * MIB,
            park_after_ms: 5_000,
            compile_cpu_ms: 0,
            compile_memory: 0,
        };
        match level {
            Level::Sandbox => sandbox,
            Level::Restricted => Limits { cpu_ms: 5_000, wall_ms: 30_000, ..sandbox },
            Level::Standard => Limits { cpu_ms: 10_000, wall_ms: 60_000, arguments: 16 * MIB, ..sandbox },
            Level::Trusted => Limits {
                cpu_ms: 60_000,
                wall_ms: 300_000,
                memory: 256 * MIB,
                tables: 1_000_000,
                arguments: 64 * MIB,
                handles: 10_000,
                output: 16 * MIB,
                promises: 1_000,
                journal: 64 * MIB,
                ..sandbox
            },
            Level::Unrestricted => Limits {
                cpu_ms: 600_000,
                wall_ms: 3_600_000,
                memory: GIB,
                tables: 10_000_000,
                arguments: 128 * MIB,
                handles: 100_000,
                output: 64 * MIB,
                promises: 10_000,
                journal: 256 * MIB,
                ..sandbox
            },
        }
    }
}

/// What a number of a policy file counts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds, an integer.
    Ms,
    /// Bytes: an integer, or text such as `"64MiB"`.
    Bytes,
    /// Things, an integer.
    Count,
}

impl Unit {
    /// A value in this unit as a policy file would write it: `64MiB`, `5000`.
    pub fn text(self, value: u64) -> String {
        match self {
            Unit::Bytes => size_text(value),
            Unit::Ms => format!("{value} ms"),
            Unit::Count => value.to_string(),
        }
    }
}

/// One key of `[limits]`: the one place that says its name, its unit and what it may be.
#[derive(Clone, Debug)]
pub struct LimitKey {
    /// The key as a policy file spells it.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// The least and the greatest value that a policy file may give.
    pub range: RangeInclusive<u64>,
    slot: fn(&mut Limits) -> &mut u64,
}

impl LimitKey {
    /// Every key of `[limits]`, in the order of [`Limits`].
    pub const ALL: &'static [LimitKey] = &[
        LimitKey { name: "cpu_ms", unit: Unit::Ms, range: 1..=MAX_CPU_MS, slot: |l| &mut l.cpu_ms },
        LimitKey { name: "wall_ms", unit: Unit::Ms, range: 1..=MAX_WALL_MS, slot: |l| &mut l.wall_ms },
        LimitKey { name: "memory", unit: Unit::Bytes, range: 1..=MAX_MEMORY, slot: |l| &mut l.memory },
        LimitKey { name: "tables", unit: Unit::Count, range: 0..=MAX_TABLES, slot: |l| &mut l.tables },
        LimitKey { name: "arguments", unit: Unit::Bytes, range: 0..=MAX_ARGUMENTS, slot: |l| &mut l.arguments },
        LimitKey { name: "handles", unit: Unit::Count, range: 0..=MAX_HANDLES, slot: |l| &mut l.handles },
        LimitKey { name: "output", unit: Unit::Bytes, range: 0..=MAX_OUTPUT, slot: |l| &mut l.output },
        LimitKey { name: "promises", unit: Unit::Count, range: 0..=MAX_PROMISES, slot: |l| &mut l.promises },
        LimitKey { name: "journal", unit: Unit::Bytes, range: 1..=MAX_JOURNAL, slot: |l| &mut l.journal },
        LimitKey {
            name: "park_after_ms",
            unit: Unit::Ms,
            range: 0..=MAX_PARK_AFTER_MS,
            slot: |l| &mut l.park_after_ms,
        },
        LimitKey {
            name: "compile_cpu_ms",
            unit: Unit::Ms,
            range: 1..=MAX_COMPILE_CPU_MS,
            slot: |l| &mut l.compile_cpu_ms,
        },
        LimitKey {
            name: "compile_memory",
            unit: Unit::Bytes,
            range: 64 * MIB..=MAX_COMPILE_MEMORY,
            slot: |l| &mut l.compile_memory,
        },
    ];

    /// The value of this limit.
    pub fn get(&self, limits: &Limits) -> u64 {
        let mut limits = *limits;
        *(self.slot)(&mut limits)
    }

    /// The value of this limit in words.
    pub fn text(&self, limits: &Limits) -> String {
        match self.get(limits) {
            0 if *self.range.start() > 0 => "by the size of the code".to_owned(),
            value => self.unit.text(value),
        }
    }

    pub(crate) fn set(&self, limits: &mut Limits, value: u64) {
        *(self.slot)(limits) = value;
    }
}

/// A day of guest time: more is a service, not a run.
const MAX_CPU_MS: u64 = 86_400_000;
/// A week of running.
const MAX_WALL_MS: u64 = 7 * 86_400_000;
/// Four full 32-bit memories.
const MAX_MEMORY: u64 = 16 * GIB;
/// 16 bytes each on the host: 1.6 GB.
const MAX_TABLES: u64 = 100_000_000;
/// What one host call copies is in host memory all at once.
const MAX_ARGUMENTS: u64 = GIB;
/// Some 100 bytes each on the host.
const MAX_HANDLES: u64 = 1_000_000;
/// Output is kept with the execution, in the store.
const MAX_OUTPUT: u64 = GIB;
/// Each is a row of the store that every owner loads.
const MAX_PROMISES: u64 = 1_000_000;
/// The journal is read in full at each resume.
const MAX_JOURNAL: u64 = 16 * GIB;
/// A day; longer waits have no business in memory.
const MAX_PARK_AFTER_MS: u64 = 86_400_000;

/// An hour.
const MAX_COMPILE_CPU_MS: u64 = 3_600_000;
/// More than any guest of 64 MiB takes.
const MAX_COMPILE_MEMORY: u64 = 64 * GIB;

/// The units of a size, greatest first, in bytes.
const SIZES: [(&str, u64); 4] = [("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1)];

/// The bytes of a size such as `64MiB`, `8KiB`, `1GiB` or `500B`; `None` if it is anything else.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, size) = SIZES.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*size)
}

/// A number of bytes in the greatest unit that fits it exactly: `64MiB`, `1500B`.
pub fn size_text(bytes: u64) -> String {
    let unit = SIZES.iter().find(|(_, size)| bytes != 0 && bytes.is_multiple_of(*size));
    let (unit, size) = unit.copied().unwrap_or(("B", 1));
    format!("{}{unit}", bytes / size)
}
